//! What every worker does beside its jobs: the recurring tasks, and the fleet's schedule.
//!
//! | module | what |
//! |---|---|
//! | `builds` | ends builds whose jobs ended without them |
//! | `deletions` | carries out deletions that wait at providers; gives hidden rows a job that deletes them |
//! | `files_root` | checks whether the stored files can be read |
//! | `files_sweep` | compares FILES_ROOT with rows, and removes what no row names |
//! | `schedule` | recurring jobs, started once for the whole fleet |
//! | `recurring_log` | what a recurring task logs of its failures |
//!
//! All of it is safe to do from several workers at once.

mod builds;
mod deletions;
pub(crate) mod files_root;
mod files_sweep;
mod recurring_log;
pub(crate) mod schedule;

use std::time::Duration;

use apalis_mariadb::State;
use rag_db::{builds as build_rows, ownership, uploads};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::step_error::StepError;
use crate::upload;
use recurring_log::RecurringLog;

const FILES_INTERVAL: Duration = Duration::from_secs(3);
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);
/// Rows that one statement forgets.
const PRUNED: u32 = 1000;
/// No listing shows a file that has been gone for so long.
const GONE_DAYS: u32 = 7;

/// Runs until it is cancelled. Errors are logged, and the next round tries again.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let repair = every("end builds without a job", REPAIR_INTERVAL, &stop, || {
        builds::end_stale(&context)
    });
    let files = every("check FILES_ROOT", FILES_INTERVAL, &stop, || {
        files_root::check(&context.pool, &context.files)
    });
    let uploads = every("end uploads without a job", REPAIR_INTERVAL, &stop, || {
        upload::job::repair(&context)
    });
    let deletions = context.settings.deletions_every;
    let pending = every("delete at providers", deletions, &stop, || {
        deletions::clean_up_everywhere(&context, &stop)
    });
    let revivals = every("give hidden rows a job", deletions, &stop, || {
        deletions::revive_deletions(&context)
    });
    let pruning = every("forget what is over", PRUNE_INTERVAL, &stop, || prune(&context));
    let measures = every("measure the queue", MEASURE_INTERVAL, &stop, || measure(&context));
    let sweeps = files_sweep::run(context.clone(), stop.clone());
    tokio::join!(
        repair, files, uploads, pending, revivals, pruning, measures, sweeps
    );
}

/// `task`: what a round does, for the log.
async fn every<F: Future<Output = Result<(), StepError>>>(
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
async fn measure(context: &Context) -> Result<(), StepError> {
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

/// Forgets what is over for longer than jobs are kept.
async fn prune(context: &Context) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    while build_rows::prune(&mut db, context.retention.as_secs(), PRUNED).await? == u64::from(PRUNED) {}
    while uploads::prune_deleted(&mut db, context.retention.as_secs(), PRUNED).await? == u64::from(PRUNED) {}
    while ownership::prune(&mut db, GONE_DAYS, PRUNED).await? == u64::from(PRUNED) {}
    Ok(())
}
