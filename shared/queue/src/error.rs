//! What can go wrong, and which of it is worth another try.

use crate::id::{ClaimToken, JobId};
use crate::job::UnreadableJob;
use crate::state::State;

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
    /// `kind` is 1 to 64 characters of `A-Z a-z 0-9 _ . : -`.
    #[error("`{0}` is no job kind: 1 to 64 letters, digits, or one of `_.:-`")]
    InvalidKind(String),
    /// Keys and tenants have a greatest length, in characters.
    #[error("the job's {what} is longer than {limit} characters")]
    TooLong { what: &'static str, limit: usize },
    #[error("the payload is no JSON")]
    Payload(#[source] serde_json::Error),
    #[error("there is no job {0}")]
    NotFound(JobId),
    /// The job's state does not allow what was asked for.
    #[error("job {id} is {state}")]
    IllegalMove { id: JobId, state: State },
    /// An active job has the same unique key.
    #[error("job {0} has the same unique key and is active")]
    Duplicate(JobId),
    /// The claim is not the job's current one, or its lease has ended: nothing may be written on the job's behalf.
    #[error("claim {0} on the job is lost")]
    ClaimLost(ClaimToken),
    /// A row that this crate did not write.
    #[error("job {id} has an unreadable {column}")]
    Corrupt { id: JobId, column: &'static str },
    /// The same, with what can be read of it.
    #[error(transparent)]
    Unreadable(Box<UnreadableJob>),
}

impl From<UnreadableJob> for QueueError {
    fn from(job: UnreadableJob) -> Self {
        Self::Unreadable(Box::new(job))
    }
}

impl QueueError {
    pub const fn is_claim_lost(&self) -> bool {
        matches!(self, Self::ClaimLost(_))
    }

    /// Worth running the whole transaction again, now or later: a deadlock, a lost connection, a server that is read-only or
    /// full, an account that is locked ([`rag_mariadb::Cause::is_transient`]). After a lost connection it is unknown whether
    /// a commit took effect; every call of this crate may be repeated then.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if rag_mariadb::cause(error).is_transient())
    }
}
