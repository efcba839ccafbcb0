//! A worker program's workers: one apalis worker per kind, one shutdown for all.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use apalis_core::monitor::{Monitor, MonitorError};
use apalis_core::task::data::Data;
use apalis_core::task::into_response::IntoResponse;
use apalis_core::task::task_fn::task_fn;
use apalis_core::worker::builder::WorkerBuilder;
use serde::de::DeserializeOwned;

use crate::claim::Claim;
use crate::error::QueueError;
use crate::new_job::JobKind;
use crate::outcome::IntoOutcome;
use crate::queue::Queue;

use super::storage::{MariaDbStorage, StorageConfig};

/// After the grace, handlers are dropped and the last ends written; a database that does not answer cannot hold the
/// process longer than this. Unwritten jobs are then rescued when their leases end.
const LAST_WRITES: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum WorkerSetError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("kind `{0}` is registered twice")]
    RegisteredTwice(&'static str),
    #[error("the workers ended on their own")]
    Ended(#[source] Option<MonitorError>),
}

/// Registers kinds with their handlers, and runs them until a signal.
///
/// ```no_run
/// use std::time::Duration;
/// use apalis_core::task::data::Data;
/// use apalis_mariadb::{Claim, JobKind, Outcome, Queue, StorageConfig, WorkerSet};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Greet { name: String }
///
/// impl JobKind for Greet {
///     const KIND: &'static str = "greet";
/// }
///
/// async fn greet(job: Greet, claim: Claim, greeting: Data<String>) -> Outcome {
///     println!("{} {}, attempt {}", *greeting, job.name, claim.attempt());
///     Outcome::done()
/// }
///
/// # async fn example(queue: Queue) -> Result<(), Box<dyn std::error::Error>> {
/// let config = StorageConfig { concurrency: 8, timeout: Some(Duration::from_secs(60)), ..Default::default() };
/// WorkerSet::new(queue)
///     .register(config, "Hello".to_owned(), greet)?
///     .run(async { let _ = tokio::signal::ctrl_c().await; }, Duration::from_secs(20))
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct WorkerSet {
    queue: Queue,
    monitor: Monitor,
    kinds: BTreeSet<&'static str>,
}

impl fmt::Debug for WorkerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSet")
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

impl WorkerSet {
    pub fn new(queue: Queue) -> Self {
        // Our backend never ends a worker; should one end all the same, it starts again.
        let monitor = Monitor::new().should_restart(|worker, error| {
            tracing::error!(worker = worker.name(), %error, "a queue worker ended; starting it again");
            true
        });
        Self {
            queue,
            monitor,
            kinds: BTreeSet::new(),
        }
    }

    /// Serves jobs of `J::KIND` with `handler`, an `async fn(J, Claim, Data<C>)` that returns an
    /// [`Outcome`](crate::Outcome), nothing, or a `Result` of either, whose error is a retry. An error that is, or comes from, a
    /// [`QueueError`] whose reason is the database's state ([`QueueError::is_transient`]) spends no attempt: the job is
    /// snoozed.
    pub fn register<J, C, F, Fut, O>(
        mut self,
        config: StorageConfig,
        context: C,
        handler: F,
    ) -> Result<Self, WorkerSetError>
    where
        J: JobKind + DeserializeOwned + Send + Sync + 'static,
        C: Clone + Send + Sync + 'static,
        F: Fn(J, Claim, Data<C>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoResponse<Output = O>,
        O: IntoOutcome + Send + 'static,
    {
        if !self.kinds.insert(J::KIND) {
            return Err(WorkerSetError::RegisteredTwice(J::KIND));
        }
        // Checks the kind now rather than in a worker that starts.
        MariaDbStorage::<J>::new(&self.queue, config.clone())?;
        let queue = self.queue.clone();
        self.monitor = self.monitor.register(move |_restarts| {
            let storage = MariaDbStorage::<J>::new_unchecked(&queue, config.clone());
            WorkerBuilder::new(J::KIND)
                .backend(storage)
                .data(context.clone())
                .build(task_fn::<_, J, (Claim, Data<C>)>(handler.clone()))
        });
        Ok(self)
    }

    /// Runs until `shutdown` is ready. Then no further job is claimed, and every running handler's
    /// [`Claim::cancellation`] fires; handlers that have not ended after `grace` are dropped. Their jobs are released
    /// at once and spend no attempt.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
        grace: Duration,
    ) -> Result<(), WorkerSetError> {
        let Self { queue, monitor, .. } = self;
        let (signalled, signal) = tokio::sync::oneshot::channel::<()>();
        let monitor = monitor.with_terminator(async move { tokio::time::sleep(grace + LAST_WRITES).await });
        let workers = monitor.run_with_signal(async move {
            let _ = signal.await;
            Ok(())
        });
        tokio::pin!(workers);
        tokio::select! {
            ended = &mut workers => return Err(WorkerSetError::Ended(ended.err())),
            () = shutdown => {}
        }
        tracing::info!(?grace, "shutting down: no further jobs are claimed");
        let engine = queue.running_engine();
        if let Some(engine) = &engine {
            engine.stop_claiming();
        }
        let _ = signalled.send(());
        let ended = tokio::select! {
            ended = &mut workers => ended,
            () = tokio::time::sleep(grace) => {
                if let Some(engine) = &engine {
                    engine.end_grace();
                }
                workers.await
            }
        };
        if let Some(engine) = engine {
            if tokio::time::timeout(LAST_WRITES, engine.flush()).await.is_err() {
                tracing::error!("the ends of some jobs could not be written; their leases will run out");
            }
            engine.close().await;
        }
        ended.map_err(|error| WorkerSetError::Ended(Some(error)))
    }
}
