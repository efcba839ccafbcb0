//! One claim's work on the sync of a provider: the run's row, its counts and findings, and what an error means for it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use apalis_mariadb::Claim;
use rag_connections::Learned;
use rag_db::syncs::{self, Run, findings};
use rag_domain::{DeletionThreshold, FindingKind, SyncCounts};
use rag_jobs::ProviderSync;
use rag_providers::{Disposition, ErrorKind, Provider, ProviderError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{MySql, MySqlConnection, Transaction};
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};

use crate::context::Context;
use crate::observe::Observer;
use crate::observe::calls::Calls;
use crate::step_error::{StepError, chain};

/// After so long no store is begun.
pub(super) const SLICE: Duration = Duration::from_secs(4);
/// Within a store, whose listing the next slice has to fetch again.
pub(super) const LONG_SLICE: Duration = Duration::from_secs(6);
/// So many failures without a success between them are the provider's, not a store's.
pub(super) const FAILURES_IN_A_ROW: u32 = 3;

/// Transactions of a run that are open at once.
pub(super) const WRITERS: usize = 4;

/// The subject of errors that are about nothing smaller.
pub(super) const WHOLE_RUN: &str = "*";

/// What a run counts, in its row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    #[serde(flatten)]
    pub(super) counts: SyncCounts,
    /// Indexes with a store, when the listing was complete.
    pub(super) indexes_known: u64,
    /// Files in stores by our rows, when the listing was complete.
    pub(super) files_known: u64,
    /// Files that left their index, of those that may.
    pub(super) files_removed: u64,
    pub(super) failures_in_a_row: u32,
    /// Why the run stopped before its end.
    pub(super) stopped: Option<String>,
}

/// One claim's work on one run.
pub(super) struct Sync<'a> {
    pub(super) context: &'a Context,
    pub(super) claim: &'a Claim,
    pub(super) job: &'a ProviderSync,
    pub(super) job_id: String,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) learned: Learned,
    pub(super) begun: Instant,
    /// What reads stores and files goes through this.
    pub(super) calls: Calls,
    /// Files that are read from disk at once.
    pub(super) disk: Semaphore,
    /// One transaction at a time: all of them lock the job's row, and would wait there with locks and connections of their own.
    pub(super) turn: Mutex<()>,
    /// Transactions that are open, with a connection each: the one that has the turn, and a few that wait for it.
    pub(super) writers: Semaphore,
    /// Nothing is begun any more.
    pub(super) winding_down: AtomicBool,
}

/// A transaction that has not had its turn yet.
pub(super) struct Opened<'s> {
    pub(super) tx: Transaction<'static, MySql>,
    permit: Option<SemaphorePermit<'s>>,
}

/// A transaction of this run that has its turn, the only one while it lasts. Rolled back unless committed.
pub(super) struct Writing<'s> {
    opened: Opened<'s>,
    _turn: MutexGuard<'s, ()>,
}

impl Writing<'_> {
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        let committed = self.opened.tx.commit().await;
        drop(self.opened.permit);
        committed
    }

    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.opened.tx.rollback().await
    }
}

impl Deref for Writing<'_> {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.opened.tx
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.opened.tx
    }
}

impl Sync<'_> {
    pub(super) fn observer(&self) -> Observer<'_> {
        Observer {
            context: self.context,
            claim: self.claim,
            provider: self.provider.as_ref(),
            learned: &self.learned,
        }
    }

    /// A transaction that may write on the job's behalf, but not an index's row: that is locked before the job's.
    pub(super) async fn write(&self) -> Result<Writing<'_>, StepError> {
        // What is written is not done again: a run that gets on outlives any number of workers.
        self.join(self.open().await?).await
    }

    /// A transaction that is not fenced yet: for what locks an index's row, which comes before the job's.
    pub(super) async fn begin(&self) -> Result<Writing<'_>, StepError> {
        self.take_turn(self.open().await?).await
    }

    /// A transaction that is to take its turn, and writes what is one store's alone before.
    pub(super) async fn open(&self) -> Result<Opened<'_>, StepError> {
        // In the order that all keep: who has the turn has a connection already, and waits for nobody of this run.
        let permit = self.writers.acquire().await.ok();
        Ok(Opened {
            tx: self.context.pool.begin().await?,
            permit,
        })
    }

    /// Waits for the turn, and fences the transaction.
    pub(super) async fn join<'s>(&'s self, opened: Opened<'s>) -> Result<Writing<'s>, StepError> {
        let mut tx = self.take_turn(opened).await?;
        self.claim.progress(&mut tx).await?;
        Ok(tx)
    }

    async fn take_turn<'s>(&'s self, opened: Opened<'s>) -> Result<Writing<'s>, StepError> {
        Ok(Writing {
            opened,
            _turn: self.turn.lock().await,
        })
    }

    pub(super) async fn read(&self) -> Result<Run, StepError> {
        let mut db = self.context.pool.acquire().await?;
        self.read_in(&mut db).await
    }

    pub(super) async fn read_in(&self, db: &mut MySqlConnection) -> Result<Run, StepError> {
        let run = syncs::find(db, &self.job_id).await?;
        run.ok_or_else(|| StepError::Fail {
            error: "the sync's own row is gone".to_owned(),
        })
    }

    pub(super) async fn totals(&self) -> Result<Totals, StepError> {
        Ok(totals_of(&self.read().await?))
    }

    pub(super) async fn totals_in(&self, db: &mut MySqlConnection) -> Result<Totals, StepError> {
        Ok(totals_of(&self.read_in(db).await?))
    }

    /// The run ends here, and says why.
    pub(super) async fn stop(&self, db: &mut MySqlConnection, reason: &str) -> Result<(), StepError> {
        self.error(db, WHOLE_RUN, reason).await?;
        self.count(db, 0, |totals| totals.stopped = Some(reason.to_owned()))
            .await?;
        Ok(())
    }

    /// Changes the numbers, in a transaction that holds the fence: so they count exactly what was committed with them.
    pub(super) async fn count(
        &self,
        db: &mut MySqlConnection,
        items_done: u32,
        change: impl FnOnce(&mut Totals),
    ) -> Result<Totals, StepError> {
        let run = self.read_in(db).await?;
        self.count_from(db, &run, items_done, change).await
    }

    /// As [`count`](Self::count), for who has read the run in this transaction.
    pub(super) async fn count_from(
        &self,
        db: &mut MySqlConnection,
        run: &Run,
        items_done: u32,
        change: impl FnOnce(&mut Totals),
    ) -> Result<Totals, StepError> {
        let mut totals = totals_of(run);
        change(&mut totals);
        syncs::set_counts(db, &self.job_id, &totals, run.items_done + items_done).await?;
        Ok(totals)
    }

    pub(super) async fn find(
        &self,
        db: &mut MySqlConnection,
        kind: FindingKind,
        subject: &str,
        detail: &Value,
    ) -> Result<(), StepError> {
        Ok(findings::put(db, &self.job_id, kind, subject, detail).await?)
    }

    /// An error that does not end the run: in its result and in the log.
    pub(super) async fn error(
        &self,
        db: &mut MySqlConnection,
        subject: &str,
        text: &str,
    ) -> Result<(), StepError> {
        tracing::warn!(subject, error = text, "the sync goes on without this");
        let detail = json!({"subject": subject, "error": text});
        self.find(db, FindingKind::Errors, subject, &detail).await
    }

    /// Between two calls: whether to go on.
    pub(super) fn check_running(&self, slice: Duration) -> Result<(), StepError> {
        if self.claim.cancellation().is_cancelled() {
            return Err(StepError::Stopped);
        }
        if self.begun.elapsed() > slice {
            return Err(StepError::snooze(Duration::ZERO, "lets other jobs have a turn"));
        }
        if self.is_winding_down() {
            return Err(StepError::snooze(
                Duration::ZERO,
                "something else has ended the slice",
            ));
        }
        Ok(())
    }

    /// What is under way comes to its end, and nothing else is begun.
    pub(super) fn wind_down(&self) {
        self.winding_down.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_winding_down(&self) -> bool {
        self.winding_down.load(Ordering::Relaxed)
    }

    pub(super) fn deletion_threshold(&self) -> DeletionThreshold {
        DeletionThreshold {
            percent: self.context.sync.deletion_threshold_percent,
        }
    }

    /// Domain of what is made for a store that nobody of ours has.
    pub(super) fn default_domain(&self) -> &rag_domain::DomainId {
        &self.context.default_domain
    }
}

pub(super) fn totals_of(run: &Run) -> Totals {
    serde_json::from_value(run.counts.clone()).unwrap_or_default()
}

/// What an error of the provider means for the thing it was about.
pub(super) enum StoreError {
    /// The whole run waits: a rate limit, a connection that is switched off, credentials.
    StopsRun(StepError),
    /// This thing may work later.
    Transient(String),
    /// It never will.
    Permanent(String),
}

impl StoreError {
    /// Of two errors the one that says more about what is to be done: what ends the slice by itself says the least.
    pub(super) fn or_worse(self, other: Self) -> Self {
        if self.rank() < other.rank() { other } else { self }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::StopsRun(StepError::Snooze { .. }) => 0,
            Self::Permanent(_) => 1,
            Self::Transient(_) => 2,
            Self::StopsRun(_) => 3,
        }
    }
}

impl From<ProviderError> for StoreError {
    fn from(error: ProviderError) -> Self {
        if error.kind == ErrorKind::RateLimited {
            return Self::StopsRun(error.into());
        }
        match error.disposition() {
            Disposition::Retry { after: Some(_) } | Disposition::WaitForOperator => {
                Self::StopsRun(error.into())
            }
            Disposition::Retry { after: None } => Self::Transient(chain(&error)),
            Disposition::Fail => Self::Permanent(chain(&error)),
        }
    }
}

impl From<StepError> for StoreError {
    fn from(error: StepError) -> Self {
        Self::StopsRun(error)
    }
}
