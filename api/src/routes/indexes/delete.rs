//! `DELETE /indexes/{index_id}`, for indexes that never reached a provider.

use apalis_mariadb::JobKind as _;
use axum::extract::State;
use http::StatusCode;
use rag_db::{attachments, index_files, indexes, intents};
use rag_domain::IndexId;
use rag_jobs::IndexBuild;

use super::build::unique_key;
use crate::extract::{Domain, Id};
use crate::problem::Problem;
use crate::state::App;

/// Delete an index
///
/// Only one of which nothing is at the provider and that no job works on: 409 otherwise. Its files stay.
#[utoipa::path(delete, path = "/indexes/{index_id}", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such index in this domain"),
        (status = 409, description = "It has, or may have, a vector store at its provider, or a build is active"),
    ))]
pub(super) async fn delete_index(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
) -> Result<StatusCode, Problem> {
    let mut tx = app.begin().await?;
    // Builds are enqueued under the same lock.
    let index = indexes::lock(&mut tx, &domain, index_id).await?;
    if let Some(job) = app
        .queue
        .find_active(&mut tx, IndexBuild::KIND, &unique_key(&index))
        .await?
    {
        return Err(Problem::conflict(format!("job {job} is building this index")));
    }
    let at_provider = index.external_id.is_some()
        || intents::any_of_index(&mut tx, index_id).await?
        || !attachments::list(&mut tx, index_id).await?.is_empty();
    if at_provider {
        return Err(Problem::conflict(
            "the index was built: it has a vector store at its provider, which this operation does not delete",
        ));
    }
    index_files::delete_all(&mut tx, index_id).await?;
    indexes::delete(&mut tx, &domain, index_id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
