//! Jobs that work on a provider as a whole: searches for orphans, probes. Their payloads name the provider.

use apalis_mariadb::{JobFilter, JobId, Page};
use rag_jobs::JobSpec;

use super::require_known;
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

/// Jobs in one answer.
const LATEST: usize = 20;
/// How many jobs of a kind are searched, of all providers.
const LOOKED_THROUGH: u32 = 200;

/// Enqueues the job, or answers the one that is active already.
pub(super) async fn enqueue(app: &App, job: &impl JobSpec) -> Result<(JobId, JobOut), Problem> {
    let id = app.enqueue(app.begin().await?, job, None).await?;
    let job = app.jobs().find_many(&[id]).await?.remove(&id);
    let job = job.ok_or_else(|| Problem::not_found("job"))??;
    Ok((id, job))
}

/// The latest jobs of a kind for a provider, newest first.
pub(super) async fn list_latest(
    app: &App,
    kind: &'static str,
    provider_type: &str,
) -> Result<Vec<JobOut>, Problem> {
    require_known(app, provider_type)?;
    let filter = JobFilter {
        kind: Some(kind.to_owned()),
        ..JobFilter::default()
    };
    let page = Page {
        limit: LOOKED_THROUGH,
        after: None,
    };
    let jobs = app.queue.list_jobs(&filter, &page).await?.items;
    Ok(jobs
        .into_iter()
        .filter(|job| {
            let payload = job.as_ref().map_or_else(|job| &job.payload, |job| &job.payload);
            // Whose it is cannot be told of an unreadable one: each provider shows it.
            payload.is_null() || payload["provider_type"] == provider_type
        })
        .take(LATEST)
        .map(JobOut::listed)
        .collect())
}

/// One of them.
pub(super) async fn find(
    app: &App,
    kind: &'static str,
    provider_type: &str,
    job_id: JobId,
) -> Result<Option<JobOut>, Problem> {
    require_known(app, provider_type)?;
    let job = app.queue.find_job(job_id).await?;
    let job = job.filter(|job| job.kind == kind && job.payload["provider_type"] == provider_type);
    Ok(job.map(JobOut::without_build))
}
