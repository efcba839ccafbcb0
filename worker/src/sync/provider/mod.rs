//! The sync of a provider: every store and every file that it has, against our rows. A report (`dry_run`) goes the
//! same way, and writes nothing but what it found.
//!
//! A run is rows, not memory: its phase and cursor, the stores that were listed, what came of each file. Any claim goes on
//! where the last one was lost, and downloads no file that it has dealt with. Phases:
//!
//! | phase | what | goes on, after a crash |
//! |---|---|---|
//! | `list` | all stores are written down, page by page | with the page after the last one that was written |
//! | `missing` | are too many of ours not among them? then the run stops before it has changed anything | from its start |
//! | `detach` | those of ours that are really gone are detached (R-6.5) | with those that still have their store |
//! | `stores` | stores side by side: of each its files, then its rows | with the next store; in a store with the next file |
//! | finish | the result, with the end of the job | is one transaction |
//!
//! **Side by side.** As many stores are worked on as it takes to keep the provider busy (`stores`), and the files of each as
//! they come (`file`); how many calls are under way is found out from the answers, for all syncs of a process at a connection
//! (`observe::calls`). A store that fails, or has to wait, holds up no other. What comes is written by one transaction at a time, with
//! all files that have come meanwhile, of whatever store; the end of a store is a transaction of its own. In memory are the
//! stores that are worked on, each with its listing, and of the others a page.
//!
//! A file in several stores is dealt with once: a store leaves what another one is at until that is through (`file::in_hand`).
//!
//! **`compare=once`** leaves out files whose bytes were found equal before, under the same id in the Files API and with the same
//! contents here (`rag_db::uploads::mark_equal`): neither side is read again. They are written down with the end of their store.
//!
//! Work goes on in slices: after some seconds the job snoozes for a moment, so that other jobs get its slot. What is under way by then
//! comes to its end.

mod file;
mod listing;
mod missing;
mod plan;
mod report;
mod run;
mod settings;
mod store;
mod stores;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use apalis_mariadb::Claim;
use rag_db::syncs;
use rag_domain::SyncPhase;
use rag_jobs::ProviderSync;
use tokio::sync::{Mutex, Semaphore};

use crate::context::Context;
use crate::observe::calls::Calls;
use crate::step_error::StepError;
use run::{Sync, WRITERS};

pub(crate) async fn run(context: &Context, claim: &Claim, job: &ProviderSync) -> Result<(), StepError> {
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
        calls: Calls::new(
            context
                .connections
                .sync_throttle(&job.provider_type, context.sync.file_concurrency),
        ),
        disk: Semaphore::new(context.sync.file_concurrency),
        turn: Mutex::default(),
        writers: Semaphore::new(WRITERS),
        winding_down: AtomicBool::default(),
    };
    let mut tx = context.pool.begin().await?;
    claim.fence(&mut tx).await?;
    if syncs::begin(&mut tx, &sync.job_id, SyncPhase::List).await? {
        tracing::info!(strict = job.strict, force = job.force, "the sync begins");
    }
    tx.commit().await?;
    loop {
        let run = sync.read().await?;
        match run.phase {
            SyncPhase::List => listing::run(&sync, run.position).await?,
            SyncPhase::Missing => missing::check(&sync).await?,
            SyncPhase::Detach => missing::detach_all(&sync).await?,
            SyncPhase::Stores => {
                stores::run(&sync, &run).await?;
                return report::finish(&sync).await;
            }
            phase @ (SyncPhase::Indexes | SyncPhase::DetachIndexes) => {
                let error = format!("the run is in phase `{phase}`, which is of a domain's sync");
                return Err(StepError::Fail { error });
            }
        }
        if sync.totals().await?.stopped.is_some() {
            return report::finish(&sync).await;
        }
    }
}
