//! `DELETE /indexes/{index_id}/vector-store`: the store goes by a job, the index stays.

use apalis_mariadb::{JobId, JobKind as _};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use rag_db::indexes::{self, Index};
use rag_db::{attachments, intents};
use rag_domain::IndexId;
use rag_jobs::{IndexBuild, IndexStoreDelete, JobSpec as _};
use sqlx::MySqlConnection;

use crate::http::extract::{Domain, Id, Prefer, PreferHeader};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

/// Delete an index's vector store
///
/// By a job, which takes turns with whatever else works on the index. The index stays, with its files: it is `not_indexed`
/// and without an `external_id`, and can't be searched until the next build makes a new store. Copies of its files at the
/// provider stay too, except old versions that nothing refers to. While such a job is active, another call answers the active
/// one. If there is no store, and can be none, the answer is 204 without a job.
///
/// With `Prefer: wait=N` the answer comes when the job is over: 204. If that takes more than N seconds (at most 30), it is the
/// usual 202.
#[utoipa::path(delete, path = "/indexes/{index_id}/vector-store", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index"), PreferHeader),
    responses(
        (status = 202, description = "The job that deletes the store", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 204, description = "There is no store",
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 404, description = "No such index in this domain"),
        (status = 409, description = "The index is being built: cancel that first. Or an earlier store of the index is still \
            being deleted"),
    ))]
pub(super) async fn delete_vector_store(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    prefer: Prefer,
) -> Result<Response, Problem> {
    let mut tx = app.begin().await?;
    // Whatever works on the index is enqueued under the same lock.
    let index = indexes::lock(&mut tx, &domain, index_id).await?;
    let payload = IndexStoreDelete {
        index_id,
        domain_id: domain,
        external_id: index.external_id.clone(),
    };
    let active = app
        .queue
        .find_active(&mut tx, IndexStoreDelete::KIND, &payload.unique_key())
        .await?;
    if let Some(job) = active {
        tx.commit().await?;
        require_same_store(&app, job, &payload).await?;
        return app.jobs().answer_deleted(prefer, job).await;
    }
    let key = IndexBuild::unique_key_of(index_id);
    if let Some(build) = app.queue.find_active(&mut tx, IndexBuild::KIND, &key).await? {
        return Err(Problem::conflict(format!(
            "job {build} builds the index: cancel it first, or wait for its end"
        )));
    }
    if !may_have_store(&mut tx, &index).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let job = app.enqueue(tx, &payload, None).await?;
    app.jobs().answer_deleted(prefer, job).await
}

/// The index has a store, or had one that is not deleted yet, or may have one whose creation was not confirmed.
async fn may_have_store(tx: &mut MySqlConnection, index: &Index) -> Result<bool, Problem> {
    Ok(index.external_id.is_some()
        || intents::any_of_index(tx, index.id).await?
        || attachments::any_of_index(tx, index.id).await?)
}

/// A build may have made another store since the active job was asked for; that job is not about it.
async fn require_same_store(app: &App, job: JobId, payload: &IndexStoreDelete) -> Result<(), Problem> {
    let found = app.queue.find_job(job).await?;
    let meant = found.and_then(|job| Some(job.payload.get("external_id")?.as_str()?.to_owned()));
    match &payload.external_id {
        Some(store) if meant.as_ref().is_some_and(|meant| meant != store) => Err(Problem::conflict(format!(
            "job {job} still deletes an earlier vector store of the index: try again when that is over"
        ))),
        _ => Ok(()),
    }
}
