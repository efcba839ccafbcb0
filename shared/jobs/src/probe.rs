//! The probe of a provider: the job's payload, and the report that is its output.

use apalis_mariadb::{JobKind, NewJob, QueueError};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Tries every operation that this service relies on at a provider, with a store and files of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderProbe {
    pub provider_type: String,
}

impl JobKind for ProviderProbe {
    const KIND: &'static str = "provider_probe";
}

impl ProviderProbe {
    /// One per provider is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::KIND, self.provider_type)
    }

    /// Ready to be enqueued. A probe that fails says why in its report, so it is not tried again; it is only when its worker
    /// was lost.
    pub fn to_job(&self) -> Result<NewJob, QueueError> {
        Ok(NewJob::of(self)?.unique_key(self.unique_key()).max_attempts(3))
    }
}

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
