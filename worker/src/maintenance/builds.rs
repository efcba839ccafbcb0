//! Ends builds whose jobs ended without them.
//!
//! Reads builds and jobs. Writes builds and indexes. Safe to do from several workers at once because the index's row is locked.

use apalis_mariadb::{Job, JobId, State};
use rag_db::builds::{self, Build};
use rag_db::indexes;

use crate::context::Context;
use crate::step_error::StepError;

/// A running build touches its row more often than this, except while it waits. Then its job is read, which says that it is not
/// over.
const STALE_SECONDS: u32 = 3;
/// Rows per statement.
const ROWS: u32 = 200;

/// A job can end without its handler: cancelled while it waited, out of attempts by time-outs or panics, given up after too
/// many lost workers. Its build and its index end here then.
pub(super) async fn end_stale(context: &Context) -> Result<(), StepError> {
    let mut after = String::new();
    loop {
        let mut db = context.pool.acquire().await?;
        let stale = builds::list_stale(&mut db, &after, STALE_SECONDS, ROWS).await?;
        drop(db);
        for build in &stale {
            // One that can't be ended now is no reason to leave the others.
            if let Err(error) = repair(context, build).await {
                tracing::warn!(job.id = build.job_id, %error, "a build could not be ended, it will be tried again");
            }
        }
        match stale.into_iter().next_back() {
            Some(last) => after = last.job_id,
            None => return Ok(()),
        }
    }
}

async fn repair(context: &Context, build: &Build) -> Result<(), StepError> {
    let Ok(job_id) = build.job_id.parse::<JobId>() else {
        return Ok(());
    };
    let job = context.queue.find_job(job_id).await?;
    if job.is_none_or(|job| job.state.is_finished()) {
        end(context, build, job_id).await?;
    }
    Ok(())
}

async fn end(context: &Context, stale: &Build, job_id: JobId) -> Result<(), StepError> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &stale.domain_id, stale.index_id).await?;
    // Read again under the index's lock, which whoever runs the job once more would need.
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
