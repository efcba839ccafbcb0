//! The forms in which providers explain a refusal: OpenAI's, a gRPC status, and what common web frameworks make of it.

use serde_json::Value;

/// What could be read out of an error answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    pub(crate) message: String,
    /// OpenAI's `code`, else its `type`, else the name of the gRPC code.
    pub(crate) code: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) form: Form,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// No body at all.
    #[default]
    Empty,
    /// JSON of a form that providers use.
    Json,
    /// HTML, plain text, or other JSON (gateways have their own): whoever wrote it, it was hardly the provider.
    Foreign,
}

impl ErrorBody {
    pub(crate) fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        if text.is_empty() {
            return Self::default();
        }
        let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else {
            return Self {
                message: foreign_message(text),
                form: Form::Foreign,
                ..Self::default()
            };
        };
        let string = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let inner = object.get("error").and_then(Value::as_object).unwrap_or(&object);
        let code = match inner.get("code") {
            Some(Value::String(code)) if !code.is_empty() => Some(code.clone()),
            Some(Value::Number(number)) => number.as_u64().map(grpc_name),
            _ => string(inner.get("type")),
        };
        let message = string(inner.get("message"))
            .or_else(|| string(object.get("error")))
            .or_else(|| string(object.get("detail")))
            .or_else(|| string(object.get("message")))
            .unwrap_or_else(|| "the provider gave no reason".to_owned());
        let details = inner.get("details").and_then(Value::as_array);
        let request_id =
            details.and_then(|details| details.iter().find_map(|detail| string(detail.get("requestId"))));
        let grpc = object.contains_key("code") && object.contains_key("message");
        let familiar = grpc || object.contains_key("error") || object.contains_key("detail");
        let form = if familiar { Form::Json } else { Form::Foreign };
        Self {
            message,
            code,
            request_id,
            form,
        }
    }

    pub(crate) fn code_is(&self, code: &str) -> bool {
        self.code
            .as_deref()
            .is_some_and(|own| own.eq_ignore_ascii_case(code))
    }
}

fn foreign_message(text: &str) -> String {
    if text.starts_with('<') {
        return "an HTML page instead of JSON".to_owned();
    }
    text.chars().take(200).collect()
}

/// The names of <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
fn grpc_name(code: u64) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(code).ok().and_then(|index| NAMES.get(index));
    name.map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_seen_is_read() {
        for (body, message, code, form) in [
            ("", "", None, Form::Empty),
            (
                r#"{"error":{"message":"No such store","type":"invalid_request_error","param":null,"code":null}}"#,
                "No such store",
                Some("invalid_request_error"),
                Form::Json,
            ),
            (
                r#"{"error":{"message":"Quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                "Quota",
                Some("insufficient_quota"),
                Form::Json,
            ),
            (
                r#"{"code":16,"message":"Unknown api key","details":[{"requestId":"r-1"}]}"#,
                "Unknown api key",
                Some("UNAUTHENTICATED"),
                Form::Json,
            ),
            (
                r#"{"error":{"code":5,"message":"gone","httpCode":404,"details":[]}}"#,
                "gone",
                Some("NOT_FOUND"),
                Form::Json,
            ),
            (r#"{"error":"plain"}"#, "plain", None, Form::Json),
            (r#"{"detail":"Not Found"}"#, "Not Found", None, Form::Json),
            ("{}", "the provider gave no reason", None, Form::Foreign),
            (
                r#"{"message":"no Route matched"}"#,
                "no Route matched",
                None,
                Form::Foreign,
            ),
            (
                "<html><body>502</body></html>",
                "an HTML page instead of JSON",
                None,
                Form::Foreign,
            ),
            (
                "upstream connect error",
                "upstream connect error",
                None,
                Form::Foreign,
            ),
            (r#"{"error":{"mess"#, r#"{"error":{"mess"#, None, Form::Foreign),
        ] {
            let read = ErrorBody::read(body.as_bytes());
            assert_eq!(
                (read.message.as_str(), read.code.as_deref(), read.form),
                (message, code, form),
                "{body}"
            );
        }
        let grpc = ErrorBody::read(br#"{"code":16,"message":"m","details":[{"requestId":"r-1"}]}"#);
        assert_eq!(grpc.request_id.as_deref(), Some("r-1"));
    }
}
