//! Why a job's work stops before its end, and what the queue is told.

use std::time::Duration;

use apalis_mariadb::{Outcome, QueueError};
use rag_connections::ConnectError;
use rag_db::DbError;
use rag_files::{FileStore, FilesError};
use rag_providers::{Disposition, ErrorKind, ProviderError};

/// How long to wait before asking a provider again that needs an operator (switched off, bad credentials, empty account).
pub(crate) const OPERATOR_PAUSE: Duration = Duration::from_secs(15);
/// How long to wait at a rate limit of which neither the provider nor the fleet says how long it lasts.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(5);
/// However long a provider asks for, no job sleeps longer than this without asking again.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// As long as an error in a job's row, or in an index's, may be.
const MAX_ERROR_CHARS: usize = 4000;
/// How long to wait for our own database to come back.
const DATABASE_PAUSE: Duration = Duration::from_secs(2);

/// Work stops here; a later claim goes on from the rows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// Nothing to do for a while: frees the slot, spends no attempt. The reason is shown with the job.
    #[error("waits for {after:?}: {reason}")]
    Snooze { after: Duration, reason: String },
    /// As `Snooze`, because the provider wants less of what was asked for. Other work can go on.
    #[error("waits for {after:?}: {reason}")]
    RateLimited { after: Duration, reason: String },
    /// As `Snooze`, because the provider answered that it can't now, or not before an operator helps.
    #[error("waits for {after:?}: {reason}")]
    ProviderWait { after: Duration, reason: String },
    /// The stored files can't be read on this machine: another worker may, or this one later. Spends no attempt.
    #[error("waits for {after:?}, for another worker perhaps: {reason}")]
    Storage {
        after: Duration,
        reason: String,
        /// No other file is likely to fare better.
        all_files: bool,
    },
    /// Something failed that may work later: spends an attempt.
    #[error("failed, to be tried again: {error}")]
    Retry { error: String, after: Option<Duration> },
    /// No further attempt can help.
    #[error("failed for good: {error}")]
    Fail { error: String },
    /// Cancelled, shutting down, or the claim was lost: the queue knows which.
    #[error("stopped")]
    Stopped,
    /// Our own database, not the job's fault: spends no attempt.
    #[error("the database failed: {error}")]
    Database { error: String },
}

impl StepError {
    /// What the queue is to do with the job.
    pub(crate) fn into_outcome(self) -> Outcome {
        match self {
            Self::Snooze { after, reason }
            | Self::RateLimited { after, reason }
            | Self::ProviderWait { after, reason }
            | Self::Storage { after, reason, .. } => Outcome::Snooze {
                after,
                reason: Some(reason),
            },
            Self::Retry { error, after } => Outcome::Retry { error, after },
            Self::Fail { error } => Outcome::Fail { error },
            Self::Stopped => Outcome::Cancelled,
            Self::Database { error } => Outcome::Snooze {
                after: DATABASE_PAUSE,
                reason: Some(error),
            },
        }
    }

    /// What is wrong, for the `last_error` of whatever the work is about. A wait for its turn, a limit of the rate or a
    /// stop is no error of the work, and errors of our own are told elsewhere.
    pub(crate) fn error(&self) -> Option<&str> {
        match self {
            Self::Retry { error, .. } | Self::Fail { error } => Some(error),
            Self::ProviderWait { reason, .. } => Some(reason),
            Self::Snooze { .. }
            | Self::RateLimited { .. }
            | Self::Storage { .. }
            | Self::Stopped
            | Self::Database { .. } => None,
        }
    }

    /// Stored files could not be read or removed, by no fault of theirs.
    pub(crate) fn storage(files: &FileStore, error: &FilesError) -> Self {
        Self::Storage {
            // Workers that stumbled together come back one by one.
            after: files.pause().mul_f64(rand::random_range(0.75..1.25)),
            reason: format!("this worker has no access to the stored files: {}", chain(error)),
            all_files: error.is_about_all_files(),
        }
    }

    /// An error that may be over at the next attempt.
    pub(crate) fn retry(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::retry_because(chain(error))
    }

    /// As [`retry`](Self::retry), with a text.
    pub(crate) fn retry_because(error: impl Into<String>) -> Self {
        Self::Retry {
            error: error.into(),
            after: None,
        }
    }

    /// No further attempt can help.
    pub(crate) fn fail(error: impl Into<String>) -> Self {
        Self::Fail { error: error.into() }
    }

    pub(crate) fn snooze(after: Duration, reason: impl Into<String>) -> Self {
        Self::Snooze {
            after,
            reason: reason.into(),
        }
    }
}

/// What each error of a provider means for a job. Waiting is not failing: to be told to come back
/// later, or that only an operator can help, spends no attempt.
impl From<ProviderError> for StepError {
    fn from(error: ProviderError) -> Self {
        let reason = || cut(error.to_string());
        if error.kind == ErrorKind::RateLimited {
            let unknown = || UNKNOWN_PAUSE.mul_f64(rand::random_range(0.75..1.25));
            return Self::RateLimited {
                after: error.retry_after.unwrap_or_else(unknown).min(LONGEST_PAUSE),
                reason: reason(),
            };
        }
        match error.disposition() {
            Disposition::Retry { after: Some(after) } => Self::ProviderWait {
                after: after.min(LONGEST_PAUSE),
                reason: reason(),
            },
            Disposition::Retry { after: None } => Self::Retry {
                error: chain(&error),
                after: None,
            },
            Disposition::WaitForOperator => {
                // The next try of an exhausted account may be sooner.
                let after = error.retry_after.unwrap_or(OPERATOR_PAUSE);
                Self::ProviderWait {
                    after: after.min(OPERATOR_PAUSE),
                    reason: reason(),
                }
            }
            Disposition::Fail => Self::Fail { error: chain(&error) },
        }
    }
}

impl From<ConnectError> for StepError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Database(error) => error.into(),
            other => Self::Snooze {
                after: OPERATOR_PAUSE,
                reason: other.to_string(),
            },
        }
    }
}

impl From<DbError> for StepError {
    fn from(error: DbError) -> Self {
        if error.is_transient() {
            return Self::Database { error: chain(&error) };
        }
        // The text of a refused statement is for our log; who asks about the job can do nothing with it.
        let shown = match &error {
            DbError::Sqlx(_) => {
                tracing::error!(error = chain(&error), "the database refused a statement");
                "the database refused what was to be written; the worker's log says why".to_owned()
            }
            other => chain(other),
        };
        Self::Retry {
            error: shown,
            after: None,
        }
    }
}

impl From<serde_json::Error> for StepError {
    fn from(error: serde_json::Error) -> Self {
        Self::fail(chain(&error))
    }
}

impl From<sqlx::Error> for StepError {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<QueueError> for StepError {
    fn from(error: QueueError) -> Self {
        if error.is_claim_lost() {
            Self::Stopped
        } else if error.is_transient() {
            Self::Database { error: chain(&error) }
        } else {
            Self::Retry {
                error: chain(&error),
                after: None,
            }
        }
    }
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    cut(text)
}

/// What others wrote may be of any length.
fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(MAX_ERROR_CHARS) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rag_providers::Operation;

    fn step_error(kind: ErrorKind, retry_after: Option<Duration>) -> StepError {
        let mut error = ProviderError::new(kind, Operation::UploadFile, "why");
        error.retry_after = retry_after;
        error.into()
    }

    #[test]
    fn only_real_failures_spend_attempts() {
        assert!(
            matches!(step_error(ErrorKind::RateLimited, Some(Duration::from_secs(7))), StepError::RateLimited { after, .. } if after.as_secs() == 7)
        );
        assert!(
            matches!(step_error(ErrorKind::RateLimited, None), StepError::RateLimited { after, .. } if after.as_secs() >= 3)
        );
        let absurd = Some(Duration::from_hours(25));
        assert!(
            matches!(step_error(ErrorKind::RateLimited, absurd), StepError::RateLimited { after, .. } if after == LONGEST_PAUSE)
        );
        assert!(
            matches!(step_error(ErrorKind::QuotaExceeded, absurd), StepError::ProviderWait { after, .. } if after == OPERATOR_PAUSE)
        );
        assert!(matches!(
            step_error(ErrorKind::Unavailable, None),
            StepError::Retry { .. }
        ));
        assert!(matches!(
            step_error(ErrorKind::Unauthorized, None),
            StepError::ProviderWait { .. }
        ));
        assert!(matches!(
            step_error(ErrorKind::Disabled, None),
            StepError::ProviderWait { .. }
        ));
        assert!(matches!(
            step_error(ErrorKind::InvalidRequest, None),
            StepError::Fail { .. }
        ));
        assert!(matches!(
            StepError::from(DbError::Sqlx(sqlx::Error::PoolTimedOut)),
            StepError::Database { .. }
        ));
    }
}
