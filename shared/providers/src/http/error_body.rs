//! The forms in which providers explain a refusal: OpenAI's, a gRPC status, and what common web frameworks make of it.

use serde_json::Value;

/// No reason is looked for deeper than this in a body.
const MAX_DEPTH: usize = 6;
/// Of a list of reasons, so many are told.
const MAX_REASONS: usize = 3;
const NO_REASON: &str = "the provider gave no reason";

/// What could be read out of an error answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    pub(crate) message: String,
    /// OpenAI's `code`, else its `type`, else the name of the gRPC code.
    pub(crate) code: Option<String>,
    /// OpenAI's `type`, also where there is a code.
    pub(crate) error_type: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) form: Form,
    /// The reason quotes a web page: a gateway has wrapped somebody's page into JSON.
    pub(crate) quotes_html: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// No body at all.
    #[default]
    Empty,
    /// JSON of a form that providers use.
    Json,
    /// HTML, plain text, or other JSON (gateways have their own): the provider itself hardly wrote it.
    Foreign,
}

impl ErrorBody {
    pub(crate) fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        if text.is_empty() {
            return Self::default();
        }
        let value = serde_json::from_str::<Value>(text).ok();
        let Some(Value::Object(object)) = value else {
            let reason = value.as_ref().and_then(|value| reason(value, 0));
            return Self {
                message: reason.unwrap_or_else(|| foreign_message(text)),
                form: Form::Foreign,
                ..Self::default()
            };
        };
        let string = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let inner = object.get("error").and_then(Value::as_object).unwrap_or(&object);
        let error_type = string(inner.get("type"));
        let code = match inner.get("code") {
            Some(Value::String(code)) if !code.is_empty() => Some(code.clone()),
            Some(Value::Number(number)) => number.as_u64().map(grpc_name),
            _ => error_type.clone(),
        };
        let found = reason(&Value::Object(object.clone()), 0);
        let (message, quotes_html) = without_html(found.unwrap_or_else(|| NO_REASON.to_owned()));
        let details = inner.get("details").and_then(Value::as_array);
        let request_id =
            details.and_then(|details| details.iter().find_map(|detail| string(detail.get("requestId"))));
        let grpc = object.contains_key("code") && object.contains_key("message");
        let familiar = grpc
            || ["error", "detail", "errors"]
                .iter()
                .any(|key| object.contains_key(*key));
        let form = if familiar { Form::Json } else { Form::Foreign };
        Self {
            message,
            code,
            error_type,
            request_id,
            form,
            quotes_html,
        }
    }

    /// Whether the provider's word for the failure is this one, as its code or as its type.
    pub(crate) fn code_is(&self, code: &str) -> bool {
        [&self.code, &self.error_type]
            .into_iter()
            .flatten()
            .any(|own| own.eq_ignore_ascii_case(code))
    }
}

/// The reason in a JSON value, wherever servers put it: `message`, `detail` (a text, an object, or a list of `{loc, msg}`),
/// `error` (a text or an object with any of these), `errors`, and their like.
fn reason(value: &Value, depth: usize) -> Option<String> {
    const KEYS: [&str; 9] = [
        "message",
        "msg",
        "error_description",
        "detail",
        "error",
        "errors",
        "title",
        "reason",
        "description",
    ];
    if depth > MAX_DEPTH {
        return None;
    }
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Array(items) => {
            let mut reasons: Vec<String> = Vec::new();
            for item in items.iter().filter_map(|item| reason(item, depth + 1)) {
                if !reasons.contains(&item) {
                    reasons.push(item);
                }
            }
            let more = reasons.len().saturating_sub(MAX_REASONS);
            reasons.truncate(MAX_REASONS);
            if more > 0 {
                reasons.push(format!("and {more} more"));
            }
            (!reasons.is_empty()).then(|| reasons.join("; "))
        }
        Value::Object(object) => {
            let found = KEYS.iter().find_map(|key| reason(object.get(*key)?, depth + 1))?;
            match object.get("loc").and_then(place) {
                Some(place) => Some(format!("{place}: {found}")),
                None => Some(found),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// `["body", "files", 3]` as `body.files.3`.
fn place(loc: &Value) -> Option<String> {
    let parts: Vec<String> = loc
        .as_array()?
        .iter()
        .map(|part| match part {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

/// A page within a reason tells nothing; what stands before it may.
fn without_html(reason: String) -> (String, bool) {
    let lower = reason.to_ascii_lowercase();
    let at = ["<!doctype", "<html"]
        .iter()
        .filter_map(|tag| lower.find(tag))
        .min();
    match at {
        None => (reason, false),
        Some(at) => (format!("{}an HTML page instead of JSON", &reason[..at]), true),
    }
}

fn foreign_message(text: &str) -> String {
    if text.starts_with('<') {
        return "an HTML page instead of JSON".to_owned();
    }
    let is_readable = |c: char| c != '\u{fffd}' && (c.is_whitespace() || !c.is_control());
    let start: String = text.chars().take(200).collect();
    if start.chars().all(is_readable) {
        start
    } else {
        "an answer that is no text".to_owned()
    }
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

    #[test]
    fn reasons_are_found_wherever_they_stand() {
        for (body, message, code, form) in [
            (
                r#"{"detail":[{"loc":["body","files",0],"msg":"Field required"},{"loc":["query"],"msg":"too long"}]}"#,
                "body.files.0: Field required; query: too long",
                None,
                Form::Json,
            ),
            (
                r#"{"detail":{"error":{"message":"inside"}}}"#,
                "inside",
                None,
                Form::Json,
            ),
            (
                r#"{"error":{"detail":{"errors":[{"msg":"deep"}]}}}"#,
                "deep",
                None,
                Form::Json,
            ),
            (
                r#"{"errors":[{"message":"one"},"two","one"]}"#,
                "one; two",
                None,
                Form::Json,
            ),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                "expired",
                None,
                Form::Json,
            ),
            (
                r#"{"message":["a","b"],"code":3}"#,
                "a; b",
                Some("INVALID_ARGUMENT"),
                Form::Json,
            ),
            (r#""just text""#, "just text", None, Form::Foreign),
            (
                "\u{1}\u{2}binary",
                "an answer that is no text",
                None,
                Form::Foreign,
            ),
        ] {
            let read = ErrorBody::read(body.as_bytes());
            assert_eq!(
                (read.message.as_str(), read.code.as_deref(), read.form),
                (message, code, form),
                "{body}"
            );
        }
    }

    #[test]
    fn a_page_within_json_is_told_as_one() {
        let wrapped = ErrorBody::read(
            br#"{"error":{"message":"litellm.NotFoundError: OpenAIException - <!DOCTYPE html><p>no</p>","code":"404"}}"#,
        );
        assert!(wrapped.quotes_html);
        assert_eq!(
            wrapped.message,
            "litellm.NotFoundError: OpenAIException - an HTML page instead of JSON"
        );
    }
}
