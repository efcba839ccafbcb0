//! Recurring work, started once for the whole fleet: every worker checks, and the row of `rag_schedules` tells one of them
//! that it is time. What starts is jobs, in the transaction that moves the row on: a crash starts them all or none.
//!
//! To add something: a line in [`entries`] with its name (which is its row's), its interval, and the jobs that it comes to
//! when it is due. Give the jobs unique keys: what has not ended since the last time is then not started again.

use std::time::Duration;

use apalis_mariadb::{NewJob, QueueError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rag_db::{connections, indexes, schedules};
use rag_jobs::{Compare, DomainSync, JobSpec as _, OrphanMode, OrphanReconcile, ProviderSync};
use sqlx::MySqlConnection;
use tokio_util::sync::CancellationToken;

use super::recurring_log::RecurringLog;
use crate::context::Context;
use crate::step_error::StepError;
use crate::sync;

/// How late something may be.
const TICK: Duration = Duration::from_secs(2);

/// What is to be started.
type Jobs<'a> = BoxFuture<'a, Result<Vec<NewJob>, StepError>>;

/// One kind of recurring work.
struct Entry {
    name: &'static str,
    /// `None`: switched off.
    every: Option<Duration>,
    jobs: for<'a> fn(&'a Context, &'a mut MySqlConnection) -> Jobs<'a>,
}

fn entries(context: &Context) -> Vec<Entry> {
    vec![
        Entry {
            name: "provider_sync",
            every: context.sync.provider_every,
            jobs: |context, db| provider_syncs(context, db).boxed(),
        },
        Entry {
            name: "index_sync",
            every: context.sync.index_every,
            jobs: |context, db| domain_syncs(context, db).boxed(),
        },
        Entry {
            name: "orphan_reconcile",
            every: context.settings.orphans_every,
            jobs: |context, db| orphan_searches(context, db).boxed(),
        },
    ]
}

/// Runs until it is cancelled. Errors are logged, and the next round tries again.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let entries: Vec<_> = entries(&context)
        .into_iter()
        .filter_map(|entry| Some((entry.every?, entry)))
        .collect();
    let mut forgetting = RecurringLog::new("forget old syncs");
    let mut logs: Vec<_> = entries
        .iter()
        .map(|(_, entry)| RecurringLog::new(entry.name))
        .collect();
    loop {
        forgetting.note(forget_old_syncs(&context).await);
        for ((every, entry), log) in entries.iter().zip(&mut logs) {
            log.note(start_if_due(&context, entry, *every).await);
        }
        let pause = TICK.mul_f64(rand::random_range(0.8..1.2));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn start_if_due(context: &Context, entry: &Entry, every: Duration) -> Result<(), StepError> {
    let mut tx = context.pool.begin().await?;
    if !schedules::take_turn(&mut tx, entry.name, every).await? {
        return Ok(tx.commit().await?);
    }
    let jobs = (entry.jobs)(context, &mut tx).await?;
    let (count, kinds) = (jobs.len(), kinds(&jobs));
    context.queue.enqueue_many(&mut tx, jobs).await?;
    tx.commit().await?;
    for kind in kinds {
        context.queue.notify(&kind);
    }
    tracing::info!(schedule = entry.name, jobs = count, "started by the schedule");
    Ok(())
}

/// No job, but the fleet's all the same.
async fn forget_old_syncs(context: &Context) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    let is_due = schedules::take_turn(&mut db, "forget_syncs", sync::FORGET_EVERY).await?;
    drop(db);
    if is_due {
        sync::forget_old_runs(context).await?;
    }
    Ok(())
}

fn kinds(jobs: &[NewJob]) -> Vec<String> {
    let mut kinds: Vec<_> = jobs.iter().map(|job| job.kind().to_owned()).collect();
    kinds.dedup();
    kinds
}

/// Every provider that is switched on.
async fn provider_syncs(context: &Context, db: &mut MySqlConnection) -> Result<Vec<NewJob>, StepError> {
    let limits = context.job_limits();
    let connections = connections::list(db).await?;
    let enabled = connections.into_iter().filter(|connection| connection.is_enabled);
    let jobs: Result<Vec<_>, QueueError> = enabled
        .map(|connection| {
            let job = ProviderSync {
                provider_type: connection.provider_type,
                dry_run: false,
                strict: false,
                force: false,
                compare: Compare::Full,
            };
            job.to_job(limits)
        })
        .collect();
    Ok(jobs?)
}

/// Every provider that is switched on.
async fn orphan_searches(context: &Context, db: &mut MySqlConnection) -> Result<Vec<NewJob>, StepError> {
    let limits = context.job_limits();
    let mode = if context.settings.orphans_delete {
        OrphanMode::Delete
    } else {
        OrphanMode::Report
    };
    let connections = connections::list(db).await?;
    let enabled = connections.into_iter().filter(|connection| connection.is_enabled);
    let jobs: Result<Vec<_>, QueueError> = enabled
        .map(|connection| {
            let provider_type = connection.provider_type;
            let job = OrphanReconcile {
                provider_type,
                mode,
                confirmed_files: Vec::new(),
            };
            job.to_job(limits)
        })
        .collect();
    Ok(jobs?)
}

/// Every domain with a store somewhere.
async fn domain_syncs(context: &Context, db: &mut MySqlConnection) -> Result<Vec<NewJob>, StepError> {
    let limits = context.job_limits();
    let domains = indexes::list_domains_with_stores(db).await?;
    let jobs: Result<Vec<_>, QueueError> = domains
        .into_iter()
        .map(|domain_id| {
            let job = DomainSync {
                domain_id,
                provider_type: None,
                force: false,
            };
            job.to_job(limits)
        })
        .collect();
    Ok(jobs?)
}
