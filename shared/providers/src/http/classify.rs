//! From an HTTP answer or a broken exchange to a kind and an effect. The tables of the transport, and nothing else.

use std::error::Error as _;

use http::{HeaderMap, StatusCode};

use super::absence;
use super::call::Call;
use super::error_body::{ErrorBody, Form};
use super::exhausted;
use super::guard::Refused;
use crate::error::{Effect, ErrorKind, Exhaustion};
use crate::operation::Operation;

/// What a refusal amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) kind: ErrorKind,
    /// With `NotFound`: the id that the answer names.
    pub(crate) absent: Option<String>,
    pub(crate) exhausted: Option<Exhaustion>,
}

/// Judges a refusal by its status and what its body says.
pub(crate) fn judge(call: &Call, status: StatusCode, body: &ErrorBody) -> Judgement {
    let exhausted = exhausted::find(call, status, body);
    let absent = absence::find(call, status, body);
    let kind = if exhausted.is_some() {
        ErrorKind::QuotaExceeded
    } else if status == StatusCode::BAD_REQUEST && absent.is_some() {
        ErrorKind::NotFound
    } else if status == StatusCode::SERVICE_UNAVAILABLE && wants_less(body) {
        ErrorKind::RateLimited
    } else {
        kind_of_status(call, status, body)
    };
    Judgement {
        absent: absent.filter(|_| kind == ErrorKind::NotFound).map(str::to_owned),
        kind,
        exhausted,
    }
}

fn kind_of_status(call: &Call, status: StatusCode, body: &ErrorBody) -> ErrorKind {
    match status.as_u16() {
        401 | 403 => ErrorKind::Unauthorized,
        402 | 507 => ErrorKind::QuotaExceeded,
        404 if body.form == Form::Empty => call.kind_of_empty_404,
        404 => kind_of_404(body),
        408 | 504 => ErrorKind::Timeout,
        // What exists already will go on existing.
        409 if body.code_is("ALREADY_EXISTS") => ErrorKind::InvalidRequest,
        405 | 501 => ErrorKind::Unsupported,
        410 => ErrorKind::NotFound,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        // A 409: two writers got in each other's way, and the loser may try again.
        409 | 425 | 499 | 500..=599 => ErrorKind::Unavailable,
        400 if call.operation == Operation::FileContent
            && body.message.contains("Not allowed to download") =>
        {
            ErrorKind::ContentUnavailable
        }
        400..=499 => ErrorKind::InvalidRequest,
        // Redirects among them: they are not followed.
        _ => ErrorKind::Protocol,
    }
}

/// "Not found" makes callers forget things, so it must come from the provider and be about the thing: a proxy's page (also
/// one that a gateway has wrapped into JSON), or a path that the server does not know at all, says nothing about it.
fn kind_of_404(body: &ErrorBody) -> ErrorKind {
    let unknown_path = body.message.starts_with("Invalid URL") || body.message == "Not Found";
    match body.form {
        Form::Foreign => ErrorKind::Protocol,
        Form::Json if body.quotes_html => ErrorKind::Protocol,
        Form::Json if unknown_path => ErrorKind::Unsupported,
        Form::Json | Form::Empty => ErrorKind::NotFound,
    }
}

/// A 503 that means "slow down" rather than "out of order".
fn wants_less(body: &ErrorBody) -> bool {
    let codes = [
        "slow_down",
        "SlowDown",
        "rate_limit_exceeded",
        "too_many_requests",
        "throttling_error",
        "RESOURCE_EXHAUSTED",
    ];
    let message = body.message.to_ascii_lowercase();
    codes.iter().any(|code| body.code_is(code))
        || ["slow down", "rate limit", "too many requests"]
            .iter()
            .any(|words| message.contains(words))
}

/// A provider that refuses has done nothing; one that is in trouble may have.
pub(crate) fn effect_of_status(operation: Operation, status: StatusCode) -> Effect {
    if !operation.is_write() {
        return Effect::None;
    }
    match status.as_u16() {
        408 | 499 | 500 | 502..=599 => Effect::Unknown,
        _ => Effect::None,
    }
}

/// The effect of a write whose answer can't be used, or never came.
pub(crate) fn effect_once_sent(operation: Operation) -> Effect {
    if operation.is_write() {
        Effect::Unknown
    } else {
        Effect::None
    }
}

/// A transport failure: its kind, whether the request may have reached the provider, and words for it.
pub(crate) struct Broken {
    pub(crate) kind: ErrorKind,
    pub(crate) sent: bool,
    pub(crate) message: String,
}

/// What a failed exchange amounts to. Only failures before a connection stood are certainly unsent.
pub(crate) fn broken(error: &reqwest::Error) -> Broken {
    let mut source = error.source();
    let mut innermost = None;
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Broken {
                kind: ErrorKind::Disabled,
                sent: false,
                message: refused.to_string(),
            };
        }
        innermost = Some(cause.to_string());
        source = cause.source();
    }
    let reason = innermost.unwrap_or_else(|| "unknown reason".to_owned());
    if error.is_builder() {
        return Broken {
            kind: ErrorKind::InvalidRequest,
            sent: false,
            message: format!("the request could not be built: {reason}"),
        };
    }
    if error.is_connect() {
        let kind = if error.is_timeout() {
            ErrorKind::Timeout
        } else {
            ErrorKind::Unavailable
        };
        return Broken {
            kind,
            sent: false,
            message: format!("no connection to the provider: {reason}"),
        };
    }
    let kind = if error.is_timeout() {
        ErrorKind::Timeout
    } else {
        ErrorKind::Unavailable
    };
    Broken {
        kind,
        sent: true,
        message: format!("the connection broke: {reason}"),
    }
}

/// The provider's own names for the exchange, for its support: the request id, and Yandex's trace id beside it.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        let id: String = value.chars().filter(char::is_ascii_graphic).take(128).collect();
        (!id.is_empty()).then_some(id)
    };
    match (text("x-request-id"), text("x-server-trace-id")) {
        (Some(id), Some(trace)) => Some(format!("{id}, trace {trace}").into()),
        (Some(id), None) => Some(id.into()),
        (None, Some(trace)) => Some(format!("trace {trace}").into()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach() -> Call {
        Call::post(Operation::AttachFile, &["vector_stores", "vs_1", "files"])
            .unwrap()
            .json(serde_json::json!({"file_id": "file-1"}))
    }

    fn judged(call: &Call, status: u16, body: &str) -> Judgement {
        let status = StatusCode::from_u16(status).unwrap();
        judge(call, status, &ErrorBody::read(body.as_bytes()))
    }

    #[test]
    fn a_503_may_mean_slow_down() {
        for (body, kind) in [
            (
                r#"{"error":{"message":"Slow down","code":"slow_down"}}"#,
                ErrorKind::RateLimited,
            ),
            (
                r#"{"error":{"message":"Please slow down."}}"#,
                ErrorKind::RateLimited,
            ),
            (r#"{"error":{"message":"overloaded"}}"#, ErrorKind::Unavailable),
        ] {
            assert_eq!(judged(&attach(), 503, body).kind, kind, "{body}");
        }
    }

    #[test]
    fn every_status_has_its_kind_and_effect() {
        use Effect::{None, Unknown};
        const QUOTA: &str = r#"{"error":{"message":"m","code":"insufficient_quota"}}"#;
        const OPENAI: &str = r#"{"error":{"message":"No such thing","type":"invalid_request_error"}}"#;
        const HTML: &str = "<html></html>";
        let rows = [
            // status, body, kind, effect of a write
            (301, "", ErrorKind::Protocol, None),
            (400, OPENAI, ErrorKind::InvalidRequest, None),
            (401, OPENAI, ErrorKind::Unauthorized, None),
            (402, OPENAI, ErrorKind::QuotaExceeded, None),
            (403, OPENAI, ErrorKind::Unauthorized, None),
            (404, OPENAI, ErrorKind::NotFound, None),
            (404, "", ErrorKind::NotFound, None),
            (404, HTML, ErrorKind::Protocol, None),
            (404, r#"{"detail":"Not Found"}"#, ErrorKind::Unsupported, None),
            (
                404,
                r#"{"error":{"message":"Invalid URL (GET /v2/x)"}}"#,
                ErrorKind::Unsupported,
                None,
            ),
            (404, r#"{"code":5,"message":"gone"}"#, ErrorKind::NotFound, None),
            (405, "", ErrorKind::Unsupported, None),
            (408, "", ErrorKind::Timeout, Unknown),
            (409, OPENAI, ErrorKind::Unavailable, None),
            (
                409,
                r#"{"code":10,"message":"aborted"}"#,
                ErrorKind::Unavailable,
                None,
            ),
            (
                409,
                r#"{"code":6,"message":"exists"}"#,
                ErrorKind::InvalidRequest,
                None,
            ),
            (410, "", ErrorKind::NotFound, None),
            (413, HTML, ErrorKind::TooLarge, None),
            (415, "", ErrorKind::InvalidRequest, None),
            (422, "", ErrorKind::InvalidRequest, None),
            (429, OPENAI, ErrorKind::RateLimited, None),
            (429, QUOTA, ErrorKind::QuotaExceeded, None),
            (
                429,
                r#"{"code":8,"message":"slow down"}"#,
                ErrorKind::RateLimited,
                None,
            ),
            (499, "", ErrorKind::Unavailable, Unknown),
            (500, OPENAI, ErrorKind::Unavailable, Unknown),
            (501, "", ErrorKind::Unsupported, None),
            (502, HTML, ErrorKind::Unavailable, Unknown),
            (503, "", ErrorKind::Unavailable, Unknown),
            (504, "", ErrorKind::Timeout, Unknown),
            (529, "", ErrorKind::Unavailable, Unknown),
        ];
        for (status, body, kind, effect) in rows {
            let status = StatusCode::from_u16(status).unwrap();
            let read = ErrorBody::read(body.as_bytes());
            assert_eq!(judge(&attach(), status, &read).kind, kind, "{status} {body}");
            assert_eq!(
                effect_of_status(Operation::AttachFile, status),
                effect,
                "{status} {body}"
            );
            assert_eq!(
                effect_of_status(Operation::GetFile, status),
                None,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_refused_download_is_not_an_invalid_request() {
        let body = ErrorBody::read(
            br#"{"error":{"message":"Not allowed to download files of purpose: assistants","type":"invalid_request_error"}}"#,
        );
        let kind = |operation| {
            let call = Call::get(operation, &["files"]).unwrap();
            judge(&call, StatusCode::BAD_REQUEST, &body).kind
        };
        assert_eq!(kind(Operation::FileContent), ErrorKind::ContentUnavailable);
        assert_eq!(kind(Operation::UploadFile), ErrorKind::InvalidRequest);
    }

    #[test]
    fn both_ids_of_an_answer_are_kept() {
        let mut headers = HeaderMap::new();
        assert_eq!(request_id(&headers), Option::None);
        headers.insert("x-server-trace-id", "t1".parse().unwrap());
        assert_eq!(request_id(&headers).as_deref(), Some("trace t1"));
        headers.insert("x-request-id", "r1".parse().unwrap());
        assert_eq!(request_id(&headers).as_deref(), Some("r1, trace t1"));
    }
}
