//! What every worker does beside its jobs, without being asked: ends builds whose jobs ended without them, and carries out
//! deletions that wait at providers. All of it is safe to do from several workers at once.

use std::time::Duration;

use apalis_mariadb::{Job, JobId, State};
use rag_db::builds::{self, Build};
use rag_db::indexes;
use rag_domain::IndexingStatus;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::clean_up_everywhere;

const REPAIR_INTERVAL: Duration = Duration::from_secs(5);
const DELETION_INTERVAL: Duration = Duration::from_mins(1);
/// A running build touches its row more often than this, except while it waits: then its job is looked at, and is fine.
const STALE_SECONDS: u32 = 3;
const ROWS: u32 = 200;

/// Runs until it is cancelled. Errors are logged, and the next round tries again.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let repair = every(REPAIR_INTERVAL, &stop, || repair_builds(&context));
    let deletions = every(DELETION_INTERVAL, &stop, || clean_up_everywhere(&context));
    tokio::join!(repair, deletions);
}

async fn every<F: Future<Output = Result<(), Halt>>>(
    interval: Duration,
    stop: &CancellationToken,
    round: impl Fn() -> F,
) {
    loop {
        // Workers that were started together drift apart.
        let pause = interval.mul_f64(rand::random_range(0.8..1.2));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(halt) = round().await {
            tracing::warn!(?halt, "upkeep failed, it will be tried again");
        }
    }
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
            let Ok(job_id) = build.job_id.parse::<JobId>() else {
                continue;
            };
            match context.queue.find_job(job_id).await? {
                Some(job) if !job.state.is_finished() => {}
                job => end(context, build, job.as_ref()).await?,
            }
        }
        match stale.into_iter().next_back() {
            Some(last) => after = last.job_id,
            None => return Ok(()),
        }
    }
}

async fn end(context: &Context, stale: &Build, job: Option<&Job>) -> Result<(), Halt> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &stale.domain_id, stale.index_id).await?;
    let latest = builds::find_latest(&mut tx, stale.index_id).await?;
    let is_open = builds::find(&mut tx, &stale.job_id)
        .await?
        .is_some_and(|build| build.finished_at.is_none());
    if !is_open {
        return Ok(());
    }
    builds::finish(&mut tx, &stale.job_id).await?;
    // A newer build may be what the index is `in_progress` for.
    let is_latest = latest.is_some_and(|build| build.job_id == stale.job_id);
    if is_latest && index.is_some_and(|index| index.indexing_status == IndexingStatus::InProgress) {
        let error = reason(job);
        indexes::mark_built(&mut tx, stale.index_id, IndexingStatus::Failed, Some(&error)).await?;
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
