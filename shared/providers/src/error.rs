//! What can go wrong in a provider call, whether it may have taken effect, and what to do about it. The mapping of wire
//! answers to these kinds is in `http`; the mapping of kinds to HTTP answers is the API's.

use std::fmt;
use std::time::Duration;

use crate::operation::Operation;

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The provider says that the thing does not exist. Right after a creation it may merely not be visible yet.
    NotFound,
    /// The provider will never take this request.
    InvalidRequest,
    /// Credentials missing, wrong, expired or without the right.
    Unauthorized,
    /// Too fast; `retry_after` says how long to wait, if the provider did.
    RateLimited,
    /// The account is exhausted; waiting alone does not help.
    QuotaExceeded,
    /// No answer in time.
    Timeout,
    /// The provider could not be reached, or answered that it is in trouble.
    Unavailable,
    /// This provider does not have the operation.
    Unsupported,
    /// The file or request is larger than the provider takes.
    TooLarge,
    /// The file exists but the provider does not hand out its bytes. Never a sign that it was deleted.
    ContentUnavailable,
    /// The answer made no sense: cut JSON, HTML, another object than asked for, a listing that loops.
    Protocol,
    /// The connection is switched off, or its configuration or credentials can't be used.
    Disabled,
    /// The bytes of an upload could not be read where they lie: no fault of the provider's, nor of the file's.
    SourceUnreadable,
    /// The bytes of an upload are not those that were announced, in number or by their hash. The provider did not get them.
    LocalCorruption,
}

impl ErrorKind {
    /// A stable word for logs, metrics and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too_large",
            Self::ContentUnavailable => "content_unavailable",
            Self::Protocol => "protocol",
            Self::Disabled => "disabled",
            Self::SourceUnreadable => "source_unreadable",
            Self::LocalCorruption => "local_corruption",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an account has run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exhaustion {
    Quota,
    Storage,
}

impl Exhaustion {
    pub const ALL: [Self; 2] = [Self::Quota, Self::Storage];

    /// A stable word for rows and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quota => "quota_exceeded",
            Self::Storage => "storage_full",
        }
    }
}

impl fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a failed call may have changed something at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Certainly not. Also for every read.
    None,
    /// It may have: adopt by listing before doing it again.
    Unknown,
    /// It has, and only what followed failed (the answer of an accepted write could not be used, say).
    Done,
}

/// What a worker should do with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again after `after`, or after the usual backoff. With effect `Unknown` or `Done`, look first.
    Retry { after: Option<Duration> },
    /// Nothing but a human (or a changed connection) will help; trying again is allowed, but rarely and slowly.
    WaitForOperator,
    /// Trying again cannot help.
    Fail,
}

/// A failed provider call. `message` is bounded, on one line, and free of credentials; `Display` does not repeat the source.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {kind}{}: {message}", Exchange(*status, request_id.as_deref()))]
pub struct ProviderError {
    pub kind: ErrorKind,
    pub operation: Operation,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The provider's own word for the failure (`insufficient_quota`, `INVALID_ARGUMENT`, …).
    pub code: Option<Box<str>>,
    /// How long the provider asked to wait.
    pub retry_after: Option<Duration>,
    /// The provider's id of the request, for its support; ours if it gave none.
    pub request_id: Option<Box<str>>,
    pub message: Box<str>,
    pub effect: Effect,
    /// With `NotFound`: the id that the answer itself names as absent. `None`: the answer names none, and anybody may have
    /// written it: a gateway, a server that does not have the route. See [`ProviderError::says_absent`].
    pub absent: Option<Box<str>>,
    /// With `QuotaExceeded`: what has run out, if the provider says so.
    pub exhausted: Option<Exhaustion>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The part of the message that tells one exchange from another; it ends up in `last_error`, where support looks for it.
struct Exchange<'a>(Option<u16>, Option<&'a str>);

impl fmt::Display for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(status), Some(id)) => write!(f, " (HTTP {status}, request {id})"),
            (Some(status), None) => write!(f, " (HTTP {status})"),
            (None, Some(id)) => write!(f, " (request {id})"),
            (None, None) => Ok(()),
        }
    }
}

impl ProviderError {
    /// An error without an answer behind it and without effect. `message` must hold no credentials.
    pub fn new(kind: ErrorKind, operation: Operation, message: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            operation,
            status: None,
            code: None,
            retry_after: None,
            request_id: None,
            message: message.into(),
            effect: Effect::None,
            absent: None,
            exhausted: None,
            source: None,
        }
    }

    /// The connection is switched off. For callers that check `is_enabled`.
    pub fn disabled(operation: Operation) -> Self {
        Self::new(
            ErrorKind::Disabled,
            operation,
            "the provider connection is switched off",
        )
    }

    /// This provider does not have the operation.
    pub fn unsupported(operation: Operation, message: impl Into<Box<str>>) -> Self {
        Self::new(ErrorKind::Unsupported, operation, message)
    }

    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names the exchange behind the error, unless it is named already.
    #[must_use]
    pub(crate) fn or_request_id(mut self, request_id: Option<Box<str>>) -> Self {
        self.request_id = self.request_id.or(request_id);
        self
    }

    /// Whether the provider says of this very id that it is not there. A "not found" that does not name what it is about
    /// proves nothing.
    pub fn says_absent(&self, id: &str) -> bool {
        self.kind == ErrorKind::NotFound && self.absent.as_deref() == Some(id)
    }

    /// The provider answered that the thing does not exist, in whatever words: some servers say 400 "… not found" without
    /// naming what.
    pub fn is_absent(&self) -> bool {
        let says_so = || {
            let message = self.message.to_lowercase();
            ["not found", "found with id", "no such", "does not exist"]
                .iter()
                .any(|words| message.contains(words))
        };
        self.kind == ErrorKind::NotFound
            || (self.kind == ErrorKind::InvalidRequest && self.status == Some(400) && says_so())
    }

    /// What to do about it, for whoever has no answer of its own to this kind.
    pub fn disposition(&self) -> Disposition {
        match self.kind {
            ErrorKind::RateLimited
            | ErrorKind::Timeout
            | ErrorKind::Unavailable
            | ErrorKind::Protocol
            | ErrorKind::SourceUnreadable => Disposition::Retry {
                after: self.retry_after,
            },
            ErrorKind::Unauthorized | ErrorKind::QuotaExceeded | ErrorKind::Disabled => {
                Disposition::WaitForOperator
            }
            ErrorKind::NotFound
            | ErrorKind::InvalidRequest
            | ErrorKind::Unsupported
            | ErrorKind::TooLarge
            | ErrorKind::ContentUnavailable
            | ErrorKind::LocalCorruption => Disposition::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_disposition() {
        let retry = Disposition::Retry {
            after: Some(Duration::from_secs(9)),
        };
        for (kind, expected) in [
            (ErrorKind::NotFound, Disposition::Fail),
            (ErrorKind::InvalidRequest, Disposition::Fail),
            (ErrorKind::Unauthorized, Disposition::WaitForOperator),
            (ErrorKind::RateLimited, retry),
            (ErrorKind::QuotaExceeded, Disposition::WaitForOperator),
            (ErrorKind::Timeout, retry),
            (ErrorKind::Unavailable, retry),
            (ErrorKind::Unsupported, Disposition::Fail),
            (ErrorKind::TooLarge, Disposition::Fail),
            (ErrorKind::ContentUnavailable, Disposition::Fail),
            (ErrorKind::Protocol, retry),
            (ErrorKind::Disabled, Disposition::WaitForOperator),
            (ErrorKind::SourceUnreadable, retry),
            (ErrorKind::LocalCorruption, Disposition::Fail),
        ] {
            let mut error = ProviderError::new(kind, Operation::GetFile, "m");
            error.retry_after = Some(Duration::from_secs(9));
            assert_eq!(error.disposition(), expected, "{kind}");
        }
    }

    #[test]
    fn display_names_the_exchange_and_not_the_source() {
        let mut error = ProviderError::new(ErrorKind::Unavailable, Operation::AttachFile, "try later")
            .with_source(std::io::Error::other("inner"));
        assert_eq!(error.to_string(), "attach_file: unavailable: try later");
        error.status = Some(503);
        error.request_id = Some("r1".into());
        assert_eq!(
            error.to_string(),
            "attach_file: unavailable (HTTP 503, request r1): try later"
        );
    }
}
