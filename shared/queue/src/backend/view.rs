//! One kind of a queue as apalis's read-only traits see it: what dashboards made for apalis (apalis-board) ask for. It
//! takes no jobs: a job belongs to rows of the application, and only the application knows which.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use apalis_core::backend::codec::Codec;
use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::queue::Queue as QueueName;
use apalis_core::backend::{
    Backend, BackendConfig, FetchById, Filter, ListAllTasks, ListQueues, ListTasks, ListWorkers, Metrics,
    QueueInfo, RunningWorker, StatType, Statistic, WireFormatBackend,
};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::status::Status;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use chrono::{DateTime, Utc};
use futures::Sink;
use serde_json::Value;
use tower::layer::util::Identity;

use crate::error::QueueError;
use crate::id::JobId;
use crate::job::Job;
use crate::operate::Worker;
use crate::queue::Queue;
use crate::read::{JobFilter, Page};
use crate::state::State;
use crate::stats::KindStats;

/// Lists are read from their beginning up to the page that is asked for; what lies further back is found by its state.
const DEEPEST: u32 = 500;

/// Jobs of one kind, to look at; and of all kinds, where apalis's traits ask for these. As a worker's backend it never
/// has a job, as a sink it refuses.
///
/// Status names: scheduled and blocked jobs are `Pending`, ready ones `Queued`, cancelled ones `Killed`.
#[derive(Clone, Debug)]
pub struct QueueView {
    queue: Queue,
    kind: String,
    codec: PayloadCodec,
}

/// Payloads are JSON, and shown as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct PayloadCodec;

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("jobs are only looked at here")]
    ReadOnly,
}

impl QueueView {
    pub fn new(queue: &Queue, kind: &str) -> Self {
        Self {
            queue: queue.clone(),
            kind: kind.to_owned(),
            codec: PayloadCodec,
        }
    }

    async fn list(&self, kind: Option<&str>, filter: &Filter) -> Result<Vec<Task<Value>>, ViewError> {
        let skip = filter.page.saturating_sub(1).saturating_mul(filter.limit());
        let limit = skip.saturating_add(filter.limit()).min(DEEPEST);
        let mut jobs = Vec::new();
        for state in states_of(filter.status.as_ref()) {
            let of_state = JobFilter {
                kind: kind.map(str::to_owned),
                state,
                ..JobFilter::default()
            };
            let page = Page { limit, after: None };
            for job in self.queue.list_jobs(&of_state, &page).await?.items {
                match job {
                    Ok(job) => jobs.push(job),
                    // A task has no place for half a job.
                    Err(error) => tracing::warn!(%error, "a job is left out of a list"),
                }
            }
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
        let wanted = jobs.iter().take(limit as usize).skip(skip as usize);
        Ok(wanted.map(task_of).collect())
    }

    async fn workers(&self, kind: Option<&str>) -> Result<Vec<RunningWorker>, ViewError> {
        let workers = self.queue.list_workers().await?;
        Ok(workers
            .iter()
            .filter(|worker| kind.is_none_or(|kind| worker.kinds.get(kind).is_some()))
            .map(|worker| running_worker(worker, kind))
            .collect())
    }
}

/// `None`: whatever their state.
fn states_of(status: Option<&Status>) -> Vec<Option<State>> {
    let Some(status) = status else {
        return vec![None];
    };
    State::ALL
        .into_iter()
        .filter(|state| status_of(*state) == *status)
        .map(Some)
        .collect()
}

const fn status_of(state: State) -> Status {
    match state {
        State::Scheduled | State::Blocked => Status::Pending,
        State::Ready => Status::Queued,
        State::Running => Status::Running,
        State::Done => Status::Done,
        State::Failed => Status::Failed,
        State::Cancelled => Status::Killed,
    }
}

fn seconds(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

fn task_of(job: &Job) -> Task<Value> {
    let lease = (job.state == State::Running).then_some(()).and(job.claimed_at);
    let mut task = TaskBuilder::new(job.payload.clone())
        .task_id(TaskId::String(job.id.to_string()))
        .status(status_of(job.state))
        .attempt(job.attempts as usize)
        .max_attempts(job.max_attempts as usize)
        .priority(usize::try_from(job.priority).unwrap_or(0))
        .queue(QueueName::from(job.kind.as_str()))
        .run_at_timestamp(seconds(job.run_at.unwrap_or(job.created_at)))
        .done_at(job.finished_at.map(seconds))
        .lock_at(lease.map(seconds))
        .lock_by(lease.and(job.worker).map(|worker| worker.to_string()));
    if let Some(key) = &job.unique_key {
        task = task.idempotency_key(key);
    }
    task.build()
}

fn running_worker(worker: &Worker, kind: Option<&str>) -> RunningWorker {
    let kinds = || {
        let kinds = worker.kinds.as_object().into_iter().flatten();
        kinds.map(|(kind, _)| kind.as_str()).collect::<Vec<_>>()
    };
    RunningWorker {
        id: worker.id.to_string(),
        queue: kind.map_or_else(|| kinds().join(", "), str::to_owned),
        backend: format!("MariaDB, {} on {}", worker.pid, worker.host),
        started_at: seconds(worker.started_at),
        last_heartbeat: seconds(worker.seen_at),
        layers: if worker.draining { "draining" } else { "" }.to_owned(),
    }
}

fn statistics<'a>(kinds: impl Iterator<Item = &'a KindStats> + Clone) -> Vec<Statistic> {
    let number = |title: &str, value: String, priority: u64| Statistic {
        title: title.to_owned(),
        stat_type: StatType::Number,
        value,
        priority: Some(priority),
    };
    let mut statistics: Vec<Statistic> = State::ALL
        .into_iter()
        .zip(1..)
        .map(|(state, priority)| {
            let jobs: u64 = kinds.clone().filter_map(|kind| kind.jobs.get(&state)).sum();
            number(state.as_str(), jobs.to_string(), priority)
        })
        .collect();
    let done: u64 = kinds.clone().map(|kind| kind.done_last_minute).sum();
    statistics.push(number("done in the last minute", done.to_string(), 0));
    let oldest = kinds.map(|kind| kind.oldest_ready_seconds).fold(0.0, f64::max);
    statistics.push(Statistic {
        title: "oldest ready, seconds".to_owned(),
        stat_type: StatType::Decimal,
        value: format!("{oldest:.1}"),
        priority: Some(0),
    });
    statistics
}

impl Backend for QueueView {
    type Task = Task<Value>;
    type Error = ViewError;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), ViewError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Value>, ViewError>>> {
        Poll::Ready(None)
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), ViewError>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for QueueView {
    type Args = Value;
    type Id = JobId;
    type Kind = Ephemeral;
    type Config = String;
    type Layer = Identity;

    /// The kind.
    fn config(&self) -> &String {
        &self.kind
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

impl WireFormatBackend for QueueView {
    type Codec = PayloadCodec;
    type Compact = Value;

    fn codec(&self) -> &PayloadCodec {
        &self.codec
    }
}

impl Codec<Value> for PayloadCodec {
    type Error = Infallible;
    type Compact = Value;

    fn encode(&self, payload: &Value) -> Result<Value, Infallible> {
        Ok(payload.clone())
    }

    fn decode(&self, payload: &Value) -> Result<Value, Infallible> {
        Ok(payload.clone())
    }
}

impl FetchById for QueueView {
    async fn fetch_by_id(&mut self, id: &TaskId) -> Result<Option<Task<Value>>, ViewError> {
        let TaskId::String(id) = id else {
            return Ok(None);
        };
        let Ok(id) = id.parse() else {
            return Ok(None);
        };
        let job = self.queue.find_job(id).await?;
        Ok(job.filter(|job| job.kind == self.kind).as_ref().map(task_of))
    }
}

impl ListTasks for QueueView {
    async fn list_tasks(&self, filter: &Filter) -> Result<Vec<Task<Value>>, ViewError> {
        self.list(Some(&self.kind), filter).await
    }
}

impl ListAllTasks for QueueView {
    async fn list_all_tasks(&self, filter: &Filter) -> Result<Vec<Task<Value>>, ViewError> {
        self.list(None, filter).await
    }
}

impl ListWorkers for QueueView {
    async fn list_workers(&self) -> Result<Vec<RunningWorker>, ViewError> {
        self.workers(Some(&self.kind)).await
    }

    async fn list_all_workers(&self) -> Result<Vec<RunningWorker>, ViewError> {
        self.workers(None).await
    }
}

impl ListQueues for QueueView {
    /// Without the activity of the last seven days, which takes counting every job of these.
    async fn list_queues(&self) -> Result<Vec<QueueInfo>, ViewError> {
        let (stats, workers) = (self.queue.stats().await?, self.queue.list_workers().await?);
        Ok(stats
            .kinds
            .iter()
            .map(|(kind, stats)| QueueInfo {
                name: kind.clone(),
                stats: statistics(std::iter::once(stats)),
                workers: workers
                    .iter()
                    .filter(|worker| worker.kinds.get(kind).is_some())
                    .map(|worker| worker.id.to_string())
                    .collect(),
                activity: Vec::new(),
            })
            .collect())
    }
}

impl Metrics for QueueView {
    async fn global(&self) -> Result<Vec<Statistic>, ViewError> {
        Ok(statistics(self.queue.stats().await?.kinds.values()))
    }

    async fn fetch_by_queue(&self) -> Result<Vec<Statistic>, ViewError> {
        let stats = self.queue.stats().await?;
        Ok(statistics(stats.kinds.get(&self.kind).into_iter()))
    }
}

/// Refuses.
impl Sink<Task<Value>> for QueueView {
    type Error = ViewError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ViewError>> {
        Poll::Ready(Err(ViewError::ReadOnly))
    }

    fn start_send(self: Pin<&mut Self>, _: Task<Value>) -> Result<(), ViewError> {
        Err(ViewError::ReadOnly)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ViewError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ViewError>> {
        Poll::Ready(Ok(()))
    }
}
