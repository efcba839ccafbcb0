//! The output of a [`ProviderProbe`](crate::ProviderProbe): what was tried, and what came of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a probe found: the job's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub provider_type: String,
    pub verdict: ProbeVerdict,
    /// One sentence.
    pub summary: String,
    pub started_at: DateTime<Utc>,
    pub duration_ms: u64,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    /// What the probe made and could not delete; workers go on trying.
    pub left_behind: Vec<String>,
}

/// Whether builds can work at this provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeVerdict {
    /// Everything works as the protocol says.
    Works,
    /// Some things differ or are missing; builds work all the same.
    Differs,
    /// Builds can't work.
    Unusable,
}

/// One operation, tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `attach_batch_of_files`, say.
    pub name: String,
    pub result: CheckResult,
    /// What was seen, in a sentence; how it differs, or why it failed.
    pub detail: String,
    /// Of the call itself; of the slowest, where there were several. Null: nothing was called.
    pub latency_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// As the protocol says.
    Works,
    /// Otherwise, in a way that this service knows to handle.
    Differs,
    /// The provider does not have it.
    Missing,
    /// It should work and does not.
    Failed,
    /// Something that it needs failed before.
    Skipped,
}

impl CheckResult {
    /// The spelling in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}
