//! `Backend`: takes a kind's claimed jobs from the engine and gives them to an apalis worker.
//!
//! No `poll_*` ever answers `Err`: apalis would end the worker for good, and there is nothing here that trying on does
//! not mend. A payload that does not decode fails its job, not the worker.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::queue::Queue as QueueName;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::data::MissingDataError;
use apalis_core::task::from_request::FromRequest;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::ack::End;
use crate::claim::Claim;
use crate::engine::{Engine, Jobs};
use crate::error::QueueError;
use crate::id::JobId;
use crate::new_job::{JobKind, is_kind};
use crate::outcome::Outcome;
use crate::queue::Queue;

use super::layer::{OutcomeLayer, Slot};

/// How a worker serves one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// How many jobs of the kind this process runs at the same time.
    pub concurrency: usize,
    /// How many more it claims ahead at most; in fact about as many as are done in 60 ms at the rate seen lately, so a job
    /// of seconds does not wait here while another process has a free slot. For jobs of milliseconds a thousand is a good
    /// value; of those that it claimed ahead, a process that is killed keeps others off until their leases end.
    pub prefetch: usize,
    /// A handler that takes longer is dropped, and the job retried.
    pub timeout: Option<Duration>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            concurrency: 1,
            prefetch: 0,
            timeout: None,
        }
    }
}

/// An apalis backend for jobs of one kind. Its layer runs every handler in a task of its own, turns panics and
/// timeouts into retries, and writes outcomes: no `parallelize`, `timeout` or `catch_panic` is needed.
pub struct MariaDbStorage<J> {
    queue: Queue,
    kind: &'static str,
    config: StorageConfig,
    permits: PollSemaphore,
    permit: Option<OwnedSemaphorePermit>,
    claimed: Option<(Arc<Engine>, Jobs)>,
    closed: Option<BoxFuture<'static, ()>>,
    payload: PhantomData<fn() -> J>,
}

impl<J> fmt::Debug for MariaDbStorage<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MariaDbStorage")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<J: JobKind> MariaDbStorage<J> {
    /// Does no IO; jobs are claimed from the first poll on. [`QueueError::InvalidKind`] if [`JobKind::KIND`] is none.
    pub fn new(queue: &Queue, config: StorageConfig) -> Result<Self, QueueError> {
        if !is_kind(J::KIND) {
            return Err(QueueError::InvalidKind(J::KIND.to_owned()));
        }
        Ok(Self::new_unchecked(queue, config))
    }

    pub(super) fn new_unchecked(queue: &Queue, config: StorageConfig) -> Self {
        Self {
            queue: queue.clone(),
            kind: J::KIND,
            permits: PollSemaphore::new(Arc::new(Semaphore::new(config.concurrency.max(1)))),
            config,
            permit: None,
            claimed: None,
            closed: None,
            payload: PhantomData,
        }
    }

    fn claimed(&mut self) -> &mut (Arc<Engine>, Jobs) {
        self.claimed.get_or_insert_with(|| {
            let (engine, jobs) =
                self.queue
                    .open_slots(J::KIND, self.config.concurrency, self.config.prefetch);
            engine.start();
            (engine, jobs)
        })
    }
}

impl<J> MariaDbStorage<J> {
    /// Stops serving the kind; claimed jobs that nobody has begun go back to the queue.
    fn leave(&mut self) -> Option<(Arc<Engine>, &'static str)> {
        let (engine, mut jobs) = self.claimed.take()?;
        jobs.close();
        while let Ok(claim) = jobs.try_recv() {
            engine.finish(&claim, End::Release);
        }
        Some((engine, self.kind))
    }
}

impl<J: JobKind + DeserializeOwned + Send + 'static> Backend for MariaDbStorage<J> {
    type Task = Task<J>;
    type Error = Infallible;

    fn poll_ready(&mut self, _cx: &mut Context<'_>, _worker: &WorkerContext) -> Poll<Result<(), Infallible>> {
        self.claimed();
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Task<J>, Infallible>>> {
        if self.permit.is_none() {
            self.permit = ready!(self.permits.poll_acquire(cx));
        }
        loop {
            let (engine, jobs) = self.claimed();
            let Some(claim) = ready!(jobs.poll_recv(cx)) else {
                return Poll::Ready(None);
            };
            let engine = Arc::clone(engine);
            let job: J = match serde_json::from_str(claim.payload()) {
                Ok(job) => job,
                Err(error) => {
                    let error = format!("the payload does not decode: {error}");
                    tracing::error!(job.id = %claim.job_id(), job.kind = claim.kind(), error);
                    engine.finish(&claim, End::Handler(Outcome::Fail { error }));
                    continue;
                }
            };
            let Some(permit) = self.permit.take() else {
                return Poll::Ready(None);
            };
            let task = TaskBuilder::new(job)
                .task_id(TaskId::from_string(claim.job_id().to_string()))
                .attempt(usize::try_from(claim.attempt() - 1).unwrap_or(usize::MAX))
                .max_attempts(usize::try_from(claim.max_attempts()).unwrap_or(usize::MAX))
                .queue(QueueName::from(claim.kind()))
                .lock_by(Some(worker.name().to_owned()))
                .data(Slot {
                    engine,
                    _permit: Arc::new(permit),
                })
                .data(claim)
                .build();
            return Poll::Ready(Some(Ok(task)));
        }
    }

    /// Waits until the ends of this kind's jobs are written.
    fn poll_close(&mut self, cx: &mut Context<'_>, _worker: &WorkerContext) -> Poll<Result<(), Infallible>> {
        if let Some((engine, _)) = self.leave() {
            self.closed = Some(Box::pin(async move {
                engine.flush_kind(J::KIND).await;
                engine.close_slots(J::KIND);
            }));
        }
        if let Some(closed) = &mut self.closed {
            ready!(closed.as_mut().poll(cx));
            self.closed = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<J: JobKind> BackendConfig for MariaDbStorage<J> {
    type Args = J;
    type Id = JobId;
    type Kind = Ephemeral;
    type Config = StorageConfig;
    type Layer = OutcomeLayer;

    fn config(&self) -> &StorageConfig {
        &self.config
    }

    fn middleware(&mut self, _worker: &mut WorkerContext) -> OutcomeLayer {
        OutcomeLayer::new(self.config.timeout)
    }
}

impl<J> Drop for MariaDbStorage<J> {
    fn drop(&mut self) {
        // A worker that ended without closing: what it had not begun must not wait for the lease's end.
        if let Some((engine, kind)) = self.leave() {
            engine.close_slots(kind);
        }
    }
}

impl<J: Sync> FromRequest<Task<J>> for Claim {
    type Error = MissingDataError;

    async fn from_request(task: &Task<J>) -> Result<Self, MissingDataError> {
        task.data().get_checked::<Self>().cloned()
    }
}
