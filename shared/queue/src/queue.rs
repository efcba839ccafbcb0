//! The handle to a queue. Its operations are in `enqueue`, `read`, `operate` and `stats`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::{MySql, MySqlConnection, MySqlPool, Transaction};

use crate::config::QueueConfig;
use crate::engine::{Engine, Jobs};
use crate::error::QueueError;
use crate::health::{Failures, Health, QueueFailure};
use crate::id::ClaimToken;
use crate::lease;
use crate::sql;

/// A queue. Cheap to clone; clones share one pool and, in a worker program, one engine.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    pool: MySqlPool,
    config: QueueConfig,
    health: Arc<Health>,
    engine: Mutex<Weak<Engine>>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Does no IO. A worker program opens five further connections with the pool's options.
    pub fn new(pool: MySqlPool, config: QueueConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool,
                config,
                health: Arc::default(),
                engine: Mutex::new(Weak::new()),
            }),
        }
    }

    pub fn config(&self) -> &QueueConfig {
        &self.inner.config
    }

    pub fn pool(&self) -> &MySqlPool {
        &self.inner.pool
    }

    /// A READ COMMITTED transaction: the isolation level that enqueueing and fencing go well with.
    pub async fn begin(&self) -> Result<Transaction<'static, MySql>, QueueError> {
        Ok(sql::begin(self.pool()).await?)
    }

    /// Wakes this process's worker, if it runs one: say after the commit of a transaction that enqueued. Workers of
    /// other processes poll for themselves.
    pub fn notify(&self, kind: &str) {
        if let Some(engine) = self.running_engine() {
            engine.announce(kind);
        }
    }

    /// Whether the claim owns its job under a lease that has not ended. No is final: such a claim never comes to life
    /// again. Yes holds until the lease's end, unless the job ends first. To write on the job's behalf use
    /// [`Claim::fence`](crate::Claim::fence).
    pub async fn is_live(&self, conn: &mut MySqlConnection, token: ClaimToken) -> Result<bool, QueueError> {
        Ok(lease::is_live(conn, token).await?)
    }

    /// What has kept this process's worker from working for more than a few seconds: it cannot poll for work, claim,
    /// keep leases, or acknowledge. A program without a worker has no failure.
    pub fn failure(&self) -> Option<QueueFailure> {
        self.inner.health.failure()
    }

    /// How often the tasks of this process's worker have failed, by cause; for metrics.
    pub fn failures(&self) -> Vec<Failures> {
        self.inner.health.failures()
    }

    pub(crate) fn running_engine(&self) -> Option<Arc<Engine>> {
        self.inner
            .engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()
    }

    /// Opens slots in the one engine of this queue in this process, which is made when first asked for.
    pub(crate) fn open_slots(
        &self,
        kind: &'static str,
        limit: usize,
        prefetch: usize,
    ) -> (Arc<Engine>, Jobs) {
        let mut slot = self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let engine = slot.upgrade().unwrap_or_else(|| {
                Engine::new(
                    self.pool().clone(),
                    self.config().clone(),
                    Arc::clone(&self.inner.health),
                )
            });
            if let Some(jobs) = engine.open_slots(kind, limit, prefetch) {
                *slot = Arc::downgrade(&engine);
                return (engine, jobs);
            }
            // That one has shut down.
            *slot = Weak::new();
        }
    }
}
