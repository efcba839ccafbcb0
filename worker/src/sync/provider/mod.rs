//! The sync of a provider: every store and every file that it has, against our rows. A report (`dry_run`) goes the
//! same way, and writes nothing but what it found.
//!
//! A run is rows, not memory: its phase and place, the stores that were listed, what came of each file. Any claim goes on
//! where the last one was lost, and downloads no file that it has dealt with. Phases:
//!
//! | phase | what | goes on, after a crash |
//! |---|---|---|
//! | `list` | all stores are written down, page by page | with the page after the last one that was written |
//! | `missing` | are too many of ours not among them? then the run stops before it has changed anything | from its start |
//! | `detach` | those of ours that are really gone are detached (R-6.5) | with those that still have their store |
//! | `stores` | one store after another: its files, then its rows | with the next store; in a store with the next file |
//! | finish | the result, with the end of the job | is one transaction |
//!
//! Work goes on in slices: after a second or a few the job snoozes for a moment, so that other jobs get its slot, and a worker that
//! dies costs little.

mod file;
mod listing;
mod missing;
mod plan;
mod report;
mod store;
mod stores;

use std::sync::Arc;
use std::time::{Duration, Instant};

use apalis_mariadb::Claim;
use rag_connections::Learned;
use rag_db::syncs::{self, Run, findings};
use rag_domain::{FindingKind, SyncCounts};
use rag_jobs::ProviderSync;
use rag_providers::{Disposition, ErrorKind, Provider, ProviderError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{MySql, MySqlConnection, Transaction};

use crate::context::Context;
use crate::halt::{Halt, chain};
use crate::observe::Observer;

const SLICE: Duration = Duration::from_secs(1);
/// Within a store, whose listing the next slice has to fetch again.
const LONG_SLICE: Duration = Duration::from_secs(4);
/// So many failures without a success between them are the provider's, not a store's.
const FAILURES_IN_A_ROW: u32 = 3;

/// The subject of errors that are about nothing smaller.
const WHOLE_RUN: &str = "*";

const LIST: &str = "list";
const MISSING: &str = "missing";
const DETACH: &str = "detach";
const STORES: &str = "stores";

/// What a run counts, in its row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Totals {
    #[serde(flatten)]
    counts: SyncCounts,
    /// Indexes with a store, when the listing was complete.
    indexes_known: u64,
    /// Files in stores by our rows, when the listing was complete.
    files_known: u64,
    /// Files that left their index, of those that may.
    files_removed: u64,
    failures_in_a_row: u32,
    /// Why the run stopped before its end.
    stopped: Option<String>,
}

/// One claim's work on one run.
struct Sync<'a> {
    context: &'a Context,
    claim: &'a Claim,
    job: &'a ProviderSync,
    job_id: String,
    provider: Arc<dyn Provider>,
    learned: Learned,
    begun: Instant,
}

pub(crate) async fn run(context: &Context, claim: &Claim, job: &ProviderSync) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    // Before anything is asked, and in every slice again.
    let (provider, learned) = context
        .connections
        .open_learned(&mut db, &job.provider_type)
        .await?;
    drop(db);
    let sync = Sync {
        context,
        claim,
        job,
        job_id: claim.job_id().to_string(),
        provider,
        learned,
        begun: Instant::now(),
    };
    let mut tx = context.pool.begin().await?;
    claim.fence(&mut tx).await?;
    if syncs::begin(&mut tx, &sync.job_id, LIST).await? {
        tracing::info!(strict = job.strict, force = job.force, "the sync begins");
    }
    tx.commit().await?;
    loop {
        let run = sync.read().await?;
        match run.phase.as_str() {
            MISSING => missing::check(&sync).await?,
            DETACH => missing::detach_all(&sync).await?,
            STORES => {
                stores::run(&sync, &run).await?;
                return report::finish(&sync).await;
            }
            // An unknown phase is another version's: every step is safe to repeat.
            _ => listing::run(&sync, run.position).await?,
        }
        if sync.totals().await?.stopped.is_some() {
            return report::finish(&sync).await;
        }
    }
}

impl Sync<'_> {
    fn observer(&self) -> Observer<'_> {
        Observer {
            context: self.context,
            claim: self.claim,
            provider: self.provider.as_ref(),
            learned: &self.learned,
        }
    }

    /// A transaction that may write on the job's behalf, but not an index's row: that is locked before the job's.
    async fn write(&self) -> Result<Transaction<'static, MySql>, Halt> {
        let mut tx = self.context.pool.begin().await?;
        // What is written is not done again: a run that gets on outlives any number of workers.
        self.claim.progress(&mut tx).await?;
        Ok(tx)
    }

    async fn read(&self) -> Result<Run, Halt> {
        let mut db = self.context.pool.acquire().await?;
        self.read_in(&mut db).await
    }

    async fn read_in(&self, db: &mut MySqlConnection) -> Result<Run, Halt> {
        let run = syncs::find(db, &self.job_id).await?;
        run.ok_or_else(|| Halt::Fail {
            error: "the sync's own row is gone".to_owned(),
        })
    }

    async fn totals(&self) -> Result<Totals, Halt> {
        Ok(totals_of(&self.read().await?))
    }

    async fn totals_in(&self, db: &mut MySqlConnection) -> Result<Totals, Halt> {
        Ok(totals_of(&self.read_in(db).await?))
    }

    /// The run ends here, and says why.
    async fn stop(&self, db: &mut MySqlConnection, reason: &str) -> Result<(), Halt> {
        self.error(db, WHOLE_RUN, reason).await?;
        self.count(db, 0, |totals| totals.stopped = Some(reason.to_owned()))
            .await?;
        Ok(())
    }

    /// Changes the numbers, in a transaction that holds the fence: so they count exactly what was committed with them.
    async fn count(
        &self,
        db: &mut MySqlConnection,
        items_done: u32,
        change: impl FnOnce(&mut Totals),
    ) -> Result<Totals, Halt> {
        let run = self.read_in(db).await?;
        let mut totals = totals_of(&run);
        change(&mut totals);
        syncs::set_counts(db, &self.job_id, &totals, run.items_done + items_done).await?;
        Ok(totals)
    }

    async fn find(
        &self,
        db: &mut MySqlConnection,
        kind: FindingKind,
        subject: &str,
        detail: &Value,
    ) -> Result<(), Halt> {
        Ok(findings::put(db, &self.job_id, kind, subject, detail).await?)
    }

    /// An error that does not end the run: in its result and in the log.
    async fn error(&self, db: &mut MySqlConnection, subject: &str, text: &str) -> Result<(), Halt> {
        tracing::warn!(subject, error = text, "the sync goes on without this");
        let detail = json!({"subject": subject, "error": text});
        self.find(db, FindingKind::Errors, subject, &detail).await
    }

    /// Between two calls: whether to go on.
    fn check_running(&self, slice: Duration) -> Result<(), Halt> {
        if self.claim.cancellation().is_cancelled() {
            return Err(Halt::Stopped);
        }
        if self.begun.elapsed() > slice {
            return Err(Halt::snooze(Duration::ZERO, "lets other jobs have a turn"));
        }
        Ok(())
    }

    /// Domain of what is made for a store that nobody of ours has.
    fn default_domain(&self) -> &rag_domain::DomainId {
        &self.context.default_domain
    }
}

fn totals_of(run: &Run) -> Totals {
    serde_json::from_value(run.counts.clone()).unwrap_or_default()
}

/// What an error of the provider means for the thing it was about.
enum Trouble {
    /// The whole run waits: a rate limit, a connection that is switched off, credentials.
    Run(Halt),
    /// This thing may work later.
    Later(String),
    /// It never will.
    Never(String),
}

impl From<ProviderError> for Trouble {
    fn from(error: ProviderError) -> Self {
        if error.kind == ErrorKind::RateLimited {
            return Self::Run(error.into());
        }
        match error.disposition() {
            Disposition::Retry { after: Some(_) } | Disposition::WaitForOperator => Self::Run(error.into()),
            Disposition::Retry { after: None } => Self::Later(chain(&error)),
            Disposition::Fail => Self::Never(chain(&error)),
        }
    }
}
