//! What every worker does beside its jobs, without being asked: ends builds and uploads whose jobs ended without them,
//! carries out deletions that wait at providers, sees to it that whatever is hidden has a job that deletes it, forgets what
//! is long over, looks whether the stored files can be read, sweeps FILES_ROOT, and measures the queue. All of it is safe to do
//! from several workers at once.

use std::time::Duration;

use apalis_mariadb::{Job, JobId, State};
use rag_db::builds::{self, Build};
use rag_db::{files, indexes, traces, uploads};
use rag_jobs::{FileDelete, IndexDelete, JobSpec};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::files_root;
use crate::files_sweep;
use crate::halt::Halt;
use crate::jobs::file_upload;
use crate::pipeline::clean_up_everywhere;
use crate::recurring_log::RecurringLog;

const FILES_INTERVAL: Duration = Duration::from_secs(3);
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);
const DELETION_INTERVAL: Duration = Duration::from_mins(1);
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);
/// A running build touches its row more often than this, except while it waits: then its job is looked at, and is fine.
const STALE_SECONDS: u32 = 3;
const ROWS: u32 = 200;
/// Rows that one statement forgets.
const PRUNED: u32 = 1000;
/// No listing shows a file that has been gone for so long.
const GONE_DAYS: u32 = 7;

/// Runs until it is cancelled. Errors are logged, and the next round tries again.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let repair = every("end builds without a job", REPAIR_INTERVAL, &stop, || {
        repair_builds(&context)
    });
    let files = every("look at FILES_ROOT", FILES_INTERVAL, &stop, || {
        files_root::look(&context.pool, &context.files)
    });
    let uploads = every("end uploads without a job", REPAIR_INTERVAL, &stop, || {
        file_upload::repair(&context)
    });
    let deletions = every("delete at providers", DELETION_INTERVAL, &stop, || {
        clean_up_everywhere(&context, &stop)
    });
    let revivals = every("give hidden rows a job", DELETION_INTERVAL, &stop, || {
        revive_deletions(&context)
    });
    let pruning = every("forget what is over", PRUNE_INTERVAL, &stop, || prune(&context));
    let measures = every("measure the queue", MEASURE_INTERVAL, &stop, || measure(&context));
    let sweeps = files_sweep::run(context.clone(), stop.clone());
    tokio::join!(
        repair, files, uploads, deletions, revivals, pruning, measures, sweeps
    );
}

/// `task`: what a round does, for the log.
async fn every<F: Future<Output = Result<(), Halt>>>(
    task: &'static str,
    interval: Duration,
    stop: &CancellationToken,
    round: impl Fn() -> F,
) {
    let mut log = RecurringLog::new(task);
    loop {
        // Workers that were started together drift apart.
        let pause = interval.mul_f64(rand::random_range(0.8..1.2));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        log.note(round().await);
    }
}

/// The queue in numbers, as gauges: every worker shows the whole fleet's.
async fn measure(context: &Context) -> Result<(), Halt> {
    for (kind, stats) in context.queue.stats().await?.kinds {
        for state in State::ALL {
            let jobs = stats.jobs.get(&state).copied().unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "a gauge; nobody counts to 2^52 jobs")]
            metrics::gauge!("rag_queue_jobs", "kind" => kind.clone(), "state" => state.as_str())
                .set(jobs as f64);
        }
        metrics::gauge!("rag_queue_oldest_ready_seconds", "kind" => kind).set(stats.oldest_ready_seconds);
    }
    files_sweep::measure(context).await
}

/// A job can end without its handler: cancelled while it waited, out of attempts by time-outs or panics, given up after too
/// many lost workers. Its build and its index end here then.
async fn repair_builds(context: &Context) -> Result<(), Halt> {
    let mut after = String::new();
    loop {
        let mut db = context.pool.acquire().await?;
        let stale = builds::list_stale(&mut db, &after, STALE_SECONDS, ROWS).await?;
        drop(db);
        for build in &stale {
            // One that can't be ended now is no reason to leave the others.
            if let Err(halt) = repair(context, build).await {
                tracing::warn!(job.id = build.job_id, %halt, "a build could not be ended, it will be tried again");
            }
        }
        match stale.into_iter().next_back() {
            Some(last) => after = last.job_id,
            None => return Ok(()),
        }
    }
}

async fn repair(context: &Context, build: &Build) -> Result<(), Halt> {
    let Ok(job_id) = build.job_id.parse::<JobId>() else {
        return Ok(());
    };
    let job = context.queue.find_job(job_id).await?;
    if job.is_none_or(|job| job.state.is_finished()) {
        end(context, build, job_id).await?;
    }
    Ok(())
}

async fn end(context: &Context, stale: &Build, job_id: JobId) -> Result<(), Halt> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &stale.domain_id, stale.index_id).await?;
    // Again, now that nobody can have the job run once more.
    let job = context.queue.find_job(job_id).await?;
    if job.as_ref().is_some_and(|job| !job.state.is_finished()) {
        return Ok(());
    }
    let error = reason(job.as_ref());
    if builds::abandon(&mut tx, index.as_ref(), &stale.job_id, &error).await? {
        tracing::warn!(index.id = %stale.index_id, job.id = stale.job_id, error, "ended a build whose job is over");
    }
    Ok(tx.commit().await?)
}

fn reason(job: Option<&Job>) -> String {
    match job {
        Some(job) if job.state == State::Cancelled => "the build was cancelled".to_owned(),
        Some(job) => job
            .last_error
            .clone()
            .unwrap_or_else(|| "the job ended without ending its build".to_owned()),
        None => "the job is gone".to_owned(),
    }
}

/// A deletion can't be taken back: whatever became of its job (cancelled, lost with too many workers), what is hidden gets
/// another one.
async fn revive_deletions(context: &Context) -> Result<(), Halt> {
    let mut after = None;
    loop {
        let mut db = context.pool.acquire().await?;
        let tombstones = indexes::list_tombstones(&mut db, None, after, ROWS).await?;
        drop(db);
        for tombstone in &tombstones {
            let job = IndexDelete {
                index_id: tombstone.index.id,
                domain_id: tombstone.index.domain_id.clone(),
            };
            revive(context, &job).await?;
        }
        match tombstones.last() {
            Some(last) => after = Some((last.deleted_at, last.index.id)),
            None => break,
        }
    }
    let mut after = None;
    loop {
        let mut db = context.pool.acquire().await?;
        let tombstones = files::list_tombstones(&mut db, after, ROWS).await?;
        drop(db);
        for tombstone in &tombstones {
            let job = FileDelete {
                file_id: tombstone.file.id,
                domain_id: tombstone.file.domain_id.clone(),
            };
            revive(context, &job).await?;
        }
        match tombstones.last() {
            Some(last) => after = Some((last.deleted_at, last.file.id)),
            None => return Ok(()),
        }
    }
}

/// A job for something that is gone meanwhile finds nothing to do.
async fn revive<J: JobSpec>(context: &Context, job: &J) -> Result<(), Halt> {
    let kind = J::KIND;
    let mut tx = context.pool.begin().await?;
    if context
        .queue
        .find_active(&mut tx, kind, &job.unique_key())
        .await?
        .is_some()
    {
        return Ok(());
    }
    let enqueued = context
        .queue
        .enqueue(&mut tx, job.to_job(context.job_limits())?)
        .await?;
    tx.commit().await?;
    context.queue.notify(kind);
    if !enqueued.existing {
        tracing::warn!(kind, job.id = %enqueued.id, "a deletion had no job any more: it has one again");
    }
    Ok(())
}

/// Forgets what is over for longer than jobs are kept.
async fn prune(context: &Context) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    while builds::prune(&mut db, context.retention.as_secs(), PRUNED).await? == u64::from(PRUNED) {}
    while uploads::prune_deleted(&mut db, context.retention.as_secs(), PRUNED).await? == u64::from(PRUNED) {}
    while traces::prune(&mut db, GONE_DAYS, PRUNED).await? == u64::from(PRUNED) {}
    Ok(())
}
