//! `POST /jobs/{job_id}/cancel` and `/retry`: what a domain may do to its jobs.
//!
//! The index's row is locked first, then the job's: its build, the index and the job change together or not at all.

use apalis_mariadb::{Cancelled, Job, JobId, JobKind as _, QueueError, State as JobState};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use rag_db::indexes::{self, Index};
use rag_db::{DbError, attachments, builds};
use rag_domain::{DomainId, IndexId};
use rag_jobs::{IndexCancel, JobSpec as _};
use serde_json::Value;
use sqlx::MySqlConnection;

use super::Jobs;
use super::row_lock::until_unlocked;
use super::view::JobOut;
use crate::http::extract::{Domain, Id, Prefer, PreferHeader};
use crate::http::problem::Problem;

/// Cancel a job
///
/// A waiting job is cancelled at once. A running job is asked to stop and is cancelled within seconds. What it did at the
/// provider stays and is taken up by the next build; the index of a build that had begun is `failed`, and its
/// `last_error` says what stays. What the provider is indexing is cancelled there too, where the provider can.
///
/// A deletion cannot be undone: if its job is cancelled, another one follows within minutes.
#[utoipa::path(post, path = "/jobs/{job_id}/cancel", tag = "jobs",
    params(("job_id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "It is cancelled", body = JobOut),
        (status = 202, description = "It runs, and has been asked to stop", body = JobOut),
        (status = 404, description = "No such job in this domain"),
        (status = 409, description = "It is done or has failed"),
    ))]
pub(super) async fn cancel_job(
    State(jobs): State<Jobs>,
    Domain(domain): Domain,
    Id(job_id): Id<JobId>,
) -> Result<(StatusCode, Json<JobOut>), Problem> {
    let job = jobs.get_row(&domain, job_id).await?;
    let cancelled = until_unlocked(|| try_cancel(&jobs, &domain, &job)).await?;
    let status = match cancelled {
        // A repeated cancel succeeds, for callers whose first answer was lost.
        Cancelled::Now | Cancelled::Finished(JobState::Cancelled) => StatusCode::OK,
        Cancelled::Requested => StatusCode::ACCEPTED,
        Cancelled::Finished(state) => return Err(Problem::conflict(format!("the job is over: {state}"))),
    };
    Ok((status, Json(jobs.get(&domain, job_id).await?)))
}

/// Run a job again
///
/// A failed or cancelled job is enqueued again under its id, with all its attempts. A scheduled job (backing off
/// after a failure, or waiting for its next poll of the provider) becomes due at once. With `Prefer: wait=N` the answer comes
/// when it has ended: 200 with the job as it is then.
#[utoipa::path(post, path = "/jobs/{job_id}/retry", tag = "jobs",
    params(("job_id" = uuid::Uuid, Path, description = "The job"), PreferHeader),
    responses(
        (status = 200, description = "With `Prefer: wait`: it is over", body = JobOut,
            headers(("Preference-Applied" = String, description = "`wait=N`, if the caller asked for it"))),
        (status = 202, description = "It is enqueued", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 404, description = "No such job in this domain"),
        (status = 409, description = "It is done, runs or is about to, its index is gone, or another job like it is active"),
    ))]
pub(super) async fn retry_job(
    State(jobs): State<Jobs>,
    Domain(domain): Domain,
    Id(job_id): Id<JobId>,
    prefer: Prefer,
) -> Result<Response, Problem> {
    let job = jobs.get_row(&domain, job_id).await?;
    until_unlocked(|| try_retry(&jobs, &domain, &job)).await?;
    jobs.queue().notify(&job.kind);
    jobs.answer(prefer, job_id, async |job| Ok(job)).await
}

/// `None`: the job's row is busy.
async fn try_cancel(jobs: &Jobs, domain: &DomainId, job: &Job) -> Result<Option<Cancelled>, Problem> {
    let mut tx = jobs.db().begin().await?;
    let index = lock_index(&mut tx, domain, job).await?;
    let cancelled = jobs.queue().try_cancel(&mut tx, job.id).await?;
    if cancelled == Some(Cancelled::Now) {
        end_build(jobs, &mut tx, index.as_ref(), job).await?;
    }
    if cancelled.is_some() {
        tx.commit().await?;
        jobs.queue().notify(IndexCancel::KIND);
    }
    Ok(cancelled)
}

/// Ends the job's build. If the provider is still indexing a batch, a job is enqueued that cancels it there.
async fn end_build(
    jobs: &Jobs,
    tx: &mut MySqlConnection,
    index: Option<&Index>,
    job: &Job,
) -> Result<(), Problem> {
    let ended = builds::abandon(tx, index, &job.id.to_string(), "the build was cancelled").await?;
    if let Some(index) = index.filter(|_| ended)
        && attachments::any_batch_in_progress(tx, index.id).await?
    {
        let job = IndexCancel {
            index_id: index.id,
            domain_id: index.domain_id.clone(),
        };
        jobs.queue().enqueue(tx, job.to_job(jobs.limits())?).await?;
    }
    Ok(())
}

/// `None`: the job's row is busy.
async fn try_retry(jobs: &Jobs, domain: &DomainId, job: &Job) -> Result<Option<()>, Problem> {
    let mut tx = jobs.db().begin().await?;
    let index = lock_index(&mut tx, domain, job).await?;
    if index.is_none() && index_id(job).is_some() {
        return Err(Problem::conflict("the job's index is gone"));
    }
    let retried = match jobs.queue().try_retry(&mut tx, job.id).await {
        Ok(retried) => retried,
        Err(QueueError::IllegalMove { state, .. }) => {
            return Err(Problem::conflict(format!("the job is {state}")));
        }
        Err(QueueError::Duplicate(other)) => {
            return Err(Problem::conflict(format!(
                "job {other} does the same and is active"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    if retried.is_some() {
        builds::forget(&mut tx, &job.id.to_string()).await?;
        tx.commit().await?;
    }
    Ok(retried)
}

fn index_id(job: &Job) -> Option<IndexId> {
    job.payload.get("index_id").and_then(Value::as_str)?.parse().ok()
}

async fn lock_index(
    tx: &mut MySqlConnection,
    domain: &DomainId,
    job: &Job,
) -> Result<Option<Index>, DbError> {
    match index_id(job) {
        Some(id) => indexes::find_for_update(tx, domain, id).await,
        None => Ok(None),
    }
}
