//! A job as callers see it: made from the job's row, and from its build or sync.

use apalis_mariadb::{EndedClaim, Job, JobId, State as JobState, UnreadableJob};
use chrono::{DateTime, Utc};
use rag_db::builds::Build;
use rag_db::syncs::Run;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::openapi::schemas::ShownJobStateSchema;

/// A piece of work in the background.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobOut {
    #[schema(value_type = uuid::Uuid)]
    id: JobId,
    #[schema(example = "index_build")]
    kind: String,
    #[schema(value_type = ShownJobStateSchema)]
    state: &'static str,
    /// The index that it is about.
    #[schema(value_type = Option<uuid::Uuid>)]
    index_id: Option<String>,
    /// What it was asked for.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    input: Value,
    /// Failures since the job last made progress; waiting and restarts do not count.
    attempts: u32,
    /// The job fails for good after so many failures.
    max_attempts: u32,
    /// Why it is not running, and until when.
    waiting: Option<WaitingOut>,
    /// It was asked to cancel while it was running.
    cancel_requested: bool,
    /// How far it has come; null before it has begun.
    progress: Option<ProgressOut>,
    /// How far a sync over many things has come; null for other jobs.
    sync_progress: Option<SyncProgressOut>,
    /// Its result, once it is done.
    output: Option<Value>,
    /// The latest failure; it stays when a later attempt succeeds.
    last_error: Option<String>,
    /// How its earlier runs ended, oldest first, unless they ended well.
    history: Vec<RunOut>,
    /// Usually empty. Columns of the job's row that cannot be read; their values are missing here.
    unreadable: Vec<&'static str>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = JobWaiting)]
struct WaitingOut {
    #[schema(example = "waits for a worker")]
    reason: String,
    /// When it becomes due; null: as soon as possible.
    until: Option<DateTime<Utc>>,
    /// Jobs ahead of it in the queue, up to 1000; only in answers about one job.
    ahead: Option<u32>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = BuildProgress)]
struct ProgressOut {
    /// ensure_vector_store | upload_files | attach_files | await_indexing | detach_files | finish
    #[schema(example = "await_indexing")]
    step: String,
    files_total: u32,
    /// Files with a current copy at the provider.
    files_uploaded: u32,
    /// Files that the provider accepted into the store.
    files_attached: u32,
    files_completed: u32,
    files_failed: u32,
    bytes_total: u64,
    bytes_uploaded: u64,
    updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = SyncProgress)]
struct SyncProgressOut {
    /// Of a provider: list | missing | detach | stores; of a domain: indexes | detach_indexes
    #[schema(example = "stores")]
    phase: &'static str,
    /// Stores of a provider, or indexes of a domain.
    items_total: u32,
    items_done: u32,
    /// The counts so far, as the job's output will have them.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    counts: Value,
    updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = JobRun)]
struct RunOut {
    /// retried | failed | cancelled | handed_back | lease_lost
    #[schema(value_type = String, example = "retried")]
    ended: Value,
    error: Option<String>,
    started_at: Option<DateTime<Utc>>,
    ended_at: DateTime<Utc>,
}

impl JobOut {
    pub(crate) fn id(&self) -> JobId {
        self.id
    }

    pub(crate) fn state(&self) -> &'static str {
        self.state
    }

    pub(crate) fn is_over(&self) -> bool {
        self.finished_at.is_some()
    }

    /// For a job without a build, or where progress does not matter.
    pub(crate) fn without_build(job: Job) -> Self {
        Self::new(job, None)
    }

    /// For a list: a job that cannot be read must not fail the whole list.
    pub(crate) fn listed(job: Result<Job, UnreadableJob>) -> Self {
        match job {
            Ok(job) => Self::without_build(job),
            Err(job) => Self::unreadable(job),
        }
    }

    /// A job whose row cannot be read whole is shown as far as it can be.
    pub(super) fn unreadable(job: UnreadableJob) -> Self {
        tracing::warn!(job.id = %job.id, columns = ?job.columns, "a job's row cannot be read whole");
        Self {
            id: job.id,
            state: job.state.map_or("unknown", JobState::as_str),
            index_id: index_of(&job.payload),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            waiting: None,
            cancel_requested: job.cancel_requested,
            progress: None,
            sync_progress: None,
            output: job.output,
            last_error: job.last_error,
            history: job.history.into_iter().map(RunOut::from).collect(),
            unreadable: job.columns,
            created_at: job.created_at.unwrap_or_default(),
            started_at: job.started_at,
            finished_at: job.finished_at,
            kind: job.kind,
            input: or_empty(job.payload),
        }
    }

    pub(super) fn new(job: Job, build: Option<Build>) -> Self {
        Self {
            id: job.id,
            state: job.state.as_str(),
            index_id: index_of(&job.payload),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            waiting: waiting(&job),
            cancel_requested: job.cancel_requested,
            progress: build.map(ProgressOut::from),
            sync_progress: None,
            output: job.output,
            last_error: job.last_error,
            history: job.history.into_iter().map(RunOut::from).collect(),
            unreadable: Vec::new(),
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            kind: job.kind,
            input: job.payload,
        }
    }

    pub(super) fn with_sync(mut self, run: Option<Run>) -> Self {
        self.sync_progress = run.map(SyncProgressOut::from);
        self
    }

    /// Sets how many jobs are ahead of this one in the queue.
    pub(super) fn set_ahead(&mut self, ahead: Option<u32>) {
        if let Some(waiting) = &mut self.waiting {
            waiting.ahead = ahead;
        }
    }

    pub(crate) fn finished_at(&self) -> Option<DateTime<Utc>> {
        self.finished_at
    }

    /// The job's result.
    pub(crate) fn output(&self) -> Option<&Value> {
        self.output.as_ref()
    }
}

fn index_of(payload: &Value) -> Option<String> {
    payload.get("index_id").and_then(Value::as_str).map(str::to_owned)
}

/// The document says that inputs are objects.
fn or_empty(payload: Value) -> Value {
    if payload.is_object() {
        payload
    } else {
        Value::Object(Map::new())
    }
}

fn waiting(job: &Job) -> Option<WaitingOut> {
    let reason = match job.state {
        JobState::Ready => "waits for a worker".to_owned(),
        JobState::Blocked => "waits for another job of the same index to end".to_owned(),
        JobState::Scheduled => match &job.snooze_reason {
            Some(reason) => reason.clone(),
            None if job.attempts > 0 => "backs off after a failure".to_owned(),
            None => "waits for its time".to_owned(),
        },
        JobState::Running | JobState::Done | JobState::Failed | JobState::Cancelled => return None,
    };
    Some(WaitingOut {
        reason,
        until: job.run_at,
        ahead: None,
    })
}

impl From<Build> for ProgressOut {
    fn from(build: Build) -> Self {
        let progress = build.progress;
        Self {
            step: build.step,
            files_total: progress.files_total,
            files_uploaded: progress.files_uploaded,
            files_attached: progress.files_attached,
            files_completed: progress.files_completed,
            files_failed: progress.files_failed,
            bytes_total: progress.bytes_total,
            bytes_uploaded: progress.bytes_uploaded,
            updated_at: build.updated_at,
        }
    }
}

impl From<Run> for SyncProgressOut {
    fn from(run: Run) -> Self {
        Self {
            phase: run.phase.as_str(),
            items_total: run.items_total,
            items_done: run.items_done,
            counts: run.counts,
            updated_at: run.updated_at,
        }
    }
}

impl From<EndedClaim> for RunOut {
    fn from(claim: EndedClaim) -> Self {
        Self {
            ended: serde_json::to_value(claim.ended).unwrap_or_default(),
            error: claim.error,
            started_at: claim.started_at,
            ended_at: claim.ended_at,
        }
    }
}
