//! `Prefer: wait=N` (RFC 7240): how long the caller is ready to wait for the result.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use rag_domain::ApiKeyId;
use rag_settings::ApiSettings;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::auth::Caller;
use crate::http::limits::Permit;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Callers that want to wait longer repeat the request.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What the request prefers. Unknown and malformed preferences are ignored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prefer {
    wait_seconds: Option<u64>,
    respond_async: bool,
    permit: Permit,
    key: Option<ApiKeyId>,
}

/// The header, for the OpenAPI document.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "described, never constructed")]
pub(crate) struct PreferHeader {
    /// `wait=N`: wait up to N seconds (at most 30) for the end of the job, and answer 200 with the result.
    /// `respond-async`: do not wait, whatever the installation's default is.
    #[serde(rename = "Prefer")]
    #[param(example = "wait=10")]
    prefer: Option<String>,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) time: Duration,
    /// The caller asked for it; else it is the installation's default.
    asked_for: bool,
}

impl Prefer {
    fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let values = headers
            .get_all(PREFER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            // Parameters follow a semicolon; neither of the two preferences has any.
            .filter_map(|preference| preference.split(';').next());
        for preference in values {
            match preference.split_once('=') {
                None => prefer.respond_async |= preference.trim().eq_ignore_ascii_case("respond-async"),
                // The first of several counts.
                Some((name, value)) if name.trim().eq_ignore_ascii_case("wait") => {
                    let value = value.trim().trim_matches('"');
                    prefer.wait_seconds = prefer.wait_seconds.or_else(|| value.parse().ok());
                }
                Some(_) => {}
            }
        }
        prefer
    }

    /// The request's permit, to be released while it waits.
    pub(crate) fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The key that the caller must still have when the wait is over.
    pub(crate) fn key(&self) -> Option<ApiKeyId> {
        self.key
    }

    /// How long to wait: at most 30 s, and less than a request may take, so that there is time to answer.
    pub(crate) fn wait(&self, settings: &ApiSettings) -> Option<Wait> {
        let asked_for = self.wait_seconds.map(Duration::from_secs);
        let by_default = settings.default_wait.filter(|_| !self.respond_async);
        let time = asked_for.or(by_default)?.min(MAX_WAIT);
        let longest = settings.request_timeout.saturating_sub(Duration::from_secs(1));
        Some(Wait {
            time: time.min(longest),
            asked_for: asked_for.is_some(),
        })
    }
}

impl Wait {
    /// The header that tells the caller that its preference was applied; none for the installation's default.
    pub(crate) fn applied(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.asked_for {
            let value = HeaderValue::try_from(format!("wait={}", self.time.as_secs()));
            headers.insert(
                PREFERENCE_APPLIED,
                value.unwrap_or(HeaderValue::from_static("wait")),
            );
        }
        headers
    }
}

impl<S: Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            permit: parts.extensions.get().cloned().unwrap_or_default(),
            key: parts.extensions.get::<Caller>().and_then(Caller::key),
            ..Self::of(&parts.headers)
        })
    }
}

#[cfg(test)]
mod tests {
    use rag_settings::Settings;

    use super::*;

    fn wait(values: &[&'static str], settings: &[(&str, &str)]) -> Option<Wait> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_static(value));
        }
        let settings = Settings::from_lookup(|name| {
            let own = settings.iter().find(|(own, _)| *own == name);
            own.map(|(_, value)| (*value).to_owned())
                .or_else(|| (name == "DATABASE_URI").then(|| "mysql://unused/unused".to_owned()))
        });
        Prefer::of(&headers).wait(&settings.unwrap().api)
    }

    fn seconds(values: &[&'static str], settings: &[(&str, &str)]) -> Option<u64> {
        wait(values, settings).map(|wait| wait.time.as_secs())
    }

    #[test]
    fn wait_is_found_among_others_and_limited() {
        let long = [("API_REQUEST_TIMEOUT_SECONDS", "60")];
        assert_eq!(seconds(&["wait=5"], &long), Some(5));
        assert_eq!(seconds(&["respond-async, Wait = \"7\"; x=1"], &long), Some(7));
        assert_eq!(seconds(&["return=minimal", "wait=0"], &long), Some(0));
        assert_eq!(seconds(&["wait=86400"], &long), Some(30));
        assert_eq!(
            seconds(&["wait=3, wait=9"], &long),
            Some(3),
            "the first one counts"
        );
        for not_applied in ["wait=-1", "wait=soon", "wait", "awaits=3", ""] {
            assert_eq!(seconds(&[not_applied], &long), None, "{not_applied}");
        }
    }

    #[test]
    fn there_is_time_left_to_answer() {
        assert_eq!(
            seconds(&["wait=20"], &[("API_REQUEST_TIMEOUT_SECONDS", "10")]),
            Some(9)
        );
    }

    #[test]
    fn the_default_is_for_those_who_prefer_nothing_and_is_not_said_to_be_applied() {
        let default = [("API_DEFAULT_WAIT_SECONDS", "12")];
        let by_default = wait(&[], &default).unwrap();
        assert_eq!(by_default.time.as_secs(), 12);
        assert!(by_default.applied().is_empty());
        assert_eq!(seconds(&["respond-async"], &default), None);
        let asked_for = wait(&["wait=2"], &default).unwrap();
        assert_eq!(asked_for.time.as_secs(), 2);
        assert_eq!(asked_for.applied()["preference-applied"], "wait=2");
    }
}
