//! `DELETE /indexes/{index_id}`: hidden at once, deleted by a job.

use apalis_mariadb::{Cancelled, JobId, JobKind as _};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use rag_db::indexes::{self, Index};
use rag_db::{attachments, builds, intents};
use rag_domain::{DomainId, IndexId};
use rag_jobs::{IndexBuild, IndexDelete, IndexSync, JobSpec as _};
use sqlx::MySqlConnection;

use crate::http::extract::{Domain, Id, Prefer, PreferHeader};
use crate::http::problem::Problem;
use crate::jobs::{JobOut, until_unlocked};
use crate::state::App;

/// Delete an index
///
/// It is gone for every reader at once, and what works on it is cancelled. A job then deletes its vector store, the copies of
/// its files that no other index at the provider holds, and the index itself; the files stay. If the provider fails, the job
/// tries again until it succeeds; if its connection is switched off or missing, the job waits for it, and says so. If nothing
/// is at the provider, or may be, the answer is 204 without a job.
///
/// With `Prefer: wait=N` the answer comes when the job is over: 204. If that takes more than N seconds (at most 30), it is the
/// usual 202.
#[utoipa::path(delete, path = "/indexes/{index_id}", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index"), PreferHeader),
    responses(
        (status = 202, description = "The job that deletes it", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 204, description = "Deleted",
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 404, description = "No such index in this domain"),
    ))]
pub(super) async fn delete_index(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    prefer: Prefer,
) -> Result<Response, Problem> {
    let done = until_unlocked(|| try_delete(&app, &domain, index_id)).await?;
    match done {
        Done::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        Done::Enqueued(job) => {
            app.queue.notify(IndexDelete::KIND);
            app.jobs().answer_deleted(prefer, job).await
        }
    }
}

enum Done {
    Deleted,
    Enqueued(JobId),
}

/// `None`: the row of a job of the index is busy.
async fn try_delete(app: &App, domain: &DomainId, index_id: IndexId) -> Result<Option<Done>, Problem> {
    let mut tx = app.begin().await?;
    // Whatever works on the index is enqueued under the same lock.
    let index = indexes::lock(&mut tx, domain, index_id).await?;
    let Some(is_idle) = stop_jobs(app, &mut tx, &index).await? else {
        return Ok(None);
    };
    indexes::mark_deleted(&mut tx, domain, index_id).await?;
    let at_provider = index.external_id.is_some()
        || intents::any_of_index(&mut tx, index_id).await?
        || attachments::any_of_index(&mut tx, index_id).await?;
    let done = if is_idle && !at_provider {
        indexes::delete_tombstone(&mut tx, index_id).await?;
        Done::Deleted
    } else {
        let job = IndexDelete {
            index_id,
            domain_id: domain.clone(),
        };
        Done::Enqueued(
            app.queue
                .enqueue(&mut tx, job.to_job(app.job_limits())?)
                .await?
                .id,
        )
    };
    tx.commit().await?;
    Ok(Some(done))
}

/// Cancels what works on the index; the answer tells whether nothing runs any more. `None`: a job's row is busy.
async fn stop_jobs(app: &App, tx: &mut MySqlConnection, index: &Index) -> Result<Option<bool>, Problem> {
    let mut is_idle = true;
    for (kind, key) in jobs_of(index) {
        let Some(job) = app.queue.find_active(tx, kind, &key).await? else {
            continue;
        };
        match app.queue.try_cancel(tx, job).await? {
            None => return Ok(None),
            Some(Cancelled::Now) => {
                builds::abandon(tx, Some(index), &job.to_string(), "the index was deleted").await?;
            }
            Some(Cancelled::Requested) => is_idle = false,
            Some(Cancelled::Finished(_)) => {}
        }
    }
    Ok(Some(is_idle))
}

/// Kinds and unique keys. What else takes turns at the index finds it hidden, and ends by itself.
fn jobs_of(index: &Index) -> [(&'static str, String); 2] {
    let sync = IndexSync {
        index_id: index.id,
        domain_id: index.domain_id.clone(),
        keep_gone: false,
    };
    [
        (IndexBuild::KIND, IndexBuild::unique_key_of(index.id)),
        (IndexSync::KIND, sync.unique_key()),
    ]
}
