//! Jobs as they are read back, and what can be read of one whose row is damaged.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{JobId, WorkerId};
use crate::state::State;

/// A job as it stands. Times are the database's, UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    pub id: JobId,
    pub kind: String,
    pub state: State,
    pub tenant: Option<String>,
    pub payload: Value,
    pub priority: i16,
    pub unique_key: Option<String>,
    pub concurrency_key: Option<String>,
    pub trace_context: Option<String>,
    /// Real failures so far.
    pub attempts: u32,
    pub max_attempts: u32,
    pub snoozes: u32,
    pub lease_losses: u32,
    /// Somebody asked to cancel it while it ran.
    pub cancel_requested: bool,
    /// The text of the latest failure; kept when a later attempt succeeds.
    pub last_error: Option<String>,
    /// Why it was snoozed last.
    pub snooze_reason: Option<String>,
    pub output: Option<Value>,
    /// Who has it, or had it last.
    pub worker: Option<WorkerId>,
    pub created_at: DateTime<Utc>,
    /// When it is due, for a scheduled job.
    pub run_at: Option<DateTime<Utc>>,
    /// When the claim ends unless it is extended, for a running job.
    pub lease_until: Option<DateTime<Utc>>,
    /// The first claim.
    pub started_at: Option<DateTime<Utc>>,
    /// The latest claim.
    pub claimed_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Claims that ended in something else than success or a snooze, oldest first; only the latest are kept.
    pub history: Vec<EndedClaim>,
}

/// What can be read of a job whose row cannot be read whole: what another version wrote, or somebody's hand.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("job {id} has an unreadable {}", .columns.join(", "))]
pub struct UnreadableJob {
    pub id: JobId,
    /// The columns that cannot be read; what they would say is absent or empty here.
    pub columns: Vec<&'static str>,
    pub kind: String,
    pub state: Option<State>,
    pub tenant: Option<String>,
    pub payload: Value,
    pub attempts: u32,
    pub max_attempts: u32,
    pub cancel_requested: bool,
    pub last_error: Option<String>,
    pub output: Option<Value>,
    /// To the millisecond by its id, if the column cannot be read.
    pub created_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub history: Vec<EndedClaim>,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedClaim {
    pub ended: Ending,
    pub error: Option<String>,
    pub worker: Option<WorkerId>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: DateTime<Utc>,
}

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// A failure with attempts left.
    Retried,
    /// The last failure.
    Failed,
    Cancelled,
    /// The worker shut down.
    #[serde(rename = "handed_back")]
    Released,
    /// The worker vanished, or could not extend the lease.
    LeaseLost,
}

impl Ending {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Released => "handed_back",
            Self::LeaseLost => "lease_lost",
        }
    }
}
