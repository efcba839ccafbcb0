//! `X-Request-Id` (R-B8): the caller's id if its form is accepted, else a new one.
//!
//! Not tower-http's `SetRequestIdLayer`: it accepts any id from the caller, and these go into logs and job payloads.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// 1 to 128 characters of `A-Z a-z 0-9 . _ : / + = -`, so that logs and headers can take it unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(value) if is_sane(value) => Self(value.clone()),
            _ => Self::fresh(),
        }
    }

    fn fresh() -> Self {
        let text = Uuid::new_v4().to_string();
        // A uuid is always a valid header value.
        Self(HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown")))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_sane(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len())
        && value
            .as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:/+=-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(value).unwrap());
        RequestId::of(&headers)
    }

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        assert_eq!(of("trace-1/a=b").as_str(), "trace-1/a=b");
        let long = "x".repeat(129);
        for odd in ["", "a b", "<script>", long.as_str()] {
            let id = of(odd);
            assert_ne!(id.as_str(), odd);
            assert!(Uuid::try_parse(id.as_str()).is_ok());
        }
    }
}
