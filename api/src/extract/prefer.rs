//! `Prefer: wait=N` (RFC 7240): how long the caller would rather wait for the result than be told where to find it.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Callers that want to wait longer ask again.
const LONGEST_SECONDS: u64 = 30;

/// What the request prefers. Preferences that are not known, or not understood, are no errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefer {
    wait_seconds: Option<u64>,
}

impl Prefer {
    fn of(headers: &HeaderMap) -> Self {
        let wait_seconds = headers
            .get_all(PREFER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|preference| {
                // What follows a semicolon are parameters, of which `wait` has none.
                let preference = preference.split(';').next()?;
                let (name, value) = preference.split_once('=')?;
                let value = value.trim().trim_matches('"');
                name.trim()
                    .eq_ignore_ascii_case("wait")
                    .then(|| value.parse().ok())
            })
            .flatten();
        Self { wait_seconds }
    }

    /// How long to wait: at most 30 s, and less than `deadline`, so that there is time to answer.
    pub(crate) fn wait(self, deadline: Duration) -> Option<Duration> {
        let seconds = self.wait_seconds?.min(LONGEST_SECONDS);
        let longest = deadline.saturating_sub(Duration::from_secs(1));
        Some(Duration::from_secs(seconds).min(longest))
    }
}

/// The header of an answer for which the server has waited, or was ready to.
pub(crate) fn applied(wait: Duration) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
    [(
        PREFERENCE_APPLIED,
        value.unwrap_or(HeaderValue::from_static("wait")),
    )]
}

impl<S: Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(values: &[&'static str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_static(value));
        }
        let wait = Prefer::of(&headers).wait(Duration::from_mins(1));
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn wait_is_found_among_others_and_limited() {
        assert_eq!(seconds(&["wait=5"]), Some(5));
        assert_eq!(seconds(&["respond-async, Wait = \"7\"; x=1"]), Some(7));
        assert_eq!(seconds(&["return=minimal", "wait=0"]), Some(0));
        assert_eq!(seconds(&["wait=86400"]), Some(30));
        assert_eq!(seconds(&["wait=3, wait=9"]), Some(3), "the first one counts");
        for not_applied in ["wait=-1", "wait=soon", "wait", "awaits=3", ""] {
            assert_eq!(seconds(&[not_applied]), None, "{not_applied}");
        }
    }

    #[test]
    fn there_is_time_left_to_answer() {
        let prefer = Prefer {
            wait_seconds: Some(20),
        };
        assert_eq!(prefer.wait(Duration::from_secs(10)), Some(Duration::from_secs(9)));
    }
}
