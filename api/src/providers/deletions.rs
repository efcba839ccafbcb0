//! `/admin/providers/{provider_type}/deletions`: indexes that are hidden but not deleted yet, and what they wait for.

use apalis_mariadb::{JobId, JobKind as _};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use rag_db::indexes::{self, Tombstone};
use rag_db::{attachments, intents};
use rag_domain::IndexId;
use rag_jobs::{IndexDelete, JobSpec as _};
use serde::Serialize;
use utoipa::ToSchema;

use super::require_known;
use crate::http::extract::{Id, Params};
use crate::http::paging::{Page, PageParams};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

/// An index that is being deleted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Deletion)]
pub(super) struct DeletionOut {
    #[schema(value_type = uuid::Uuid)]
    index_id: IndexId,
    #[schema(example = "tenant-1")]
    domain_id: String,
    name: String,
    deleted_at: DateTime<Utc>,
    /// The vector store, until the job has begun to delete it.
    external_id: Option<String>,
    /// The job, with what it waits for and how often it has failed; null for moments, until it has another one.
    job: Option<JobOut>,
}

/// List the deletions of indexes that are not done
///
/// The longest deleted first.
#[utoipa::path(get, path = "/admin/providers/{provider_type}/deletions", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"), PageParams),
    responses(
        (status = 200, description = "One page", body = Page<DeletionOut>),
        (status = 400, description = "limit or cursor cannot be read"),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn list_deletions(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<DeletionOut>>, Problem> {
    require_known(&app, &provider_type)?;
    let page = params.check()?;
    let mut connection = app.connection().await?;
    let rows =
        indexes::list_tombstones(&mut connection, Some(&provider_type), page.before, page.limit + 1).await?;
    let mut jobs = Vec::new();
    for row in &rows {
        let key = payload(row).unique_key();
        jobs.push(
            app.queue
                .find_active(&mut connection, IndexDelete::KIND, &key)
                .await?,
        );
    }
    drop(connection);
    let ids: Vec<_> = jobs.iter().flatten().copied().collect();
    let found = app.queue.find_jobs(&ids).await?;
    let view = |(row, id): (Tombstone, Option<JobId>)| DeletionOut {
        // A job that can't be read must not hide the deletion.
        job: id
            .and_then(|id| found.get(&id)?.as_ref().ok())
            .map(|job| JobOut::without_build(job.clone())),
        index_id: row.index.id,
        domain_id: row.index.domain_id.to_string(),
        name: row.index.name,
        deleted_at: row.deleted_at,
        external_id: row.index.external_id,
    };
    let rows: Vec<_> = rows.into_iter().zip(jobs).collect();
    let position = |(row, _): &(Tombstone, _)| (row.deleted_at, row.index.id);
    Ok(Json(Page::of(rows, page.limit, position, view)))
}

/// Give up a deletion
///
/// For a provider that will never answer again: the index's rows go at once, and whatever it has at the provider stays there,
/// unknown from then on. Its files, and their copies, stay as they are.
#[utoipa::path(delete, path = "/admin/providers/{provider_type}/deletions/{index_id}", tag = "admin: providers",
    params(
        ("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("index_id" = uuid::Uuid, Path, description = "The index that is being deleted")),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 404, description = "No such provider, or no such deletion there"),
    ))]
pub(super) async fn give_up_deletion(
    State(app): State<App>,
    Id((provider_type, index_id)): Id<(String, IndexId)>,
) -> Result<StatusCode, Problem> {
    require_known(&app, &provider_type)?;
    let mut tx = app.begin().await?;
    let tombstone = indexes::find_tombstone_for_update(&mut tx, index_id).await?;
    let tombstone = tombstone.filter(|tombstone| tombstone.index.provider_type == provider_type);
    if tombstone.is_none() {
        return Err(Problem::not_found("deletion"));
    }
    // The job finds nothing to do when it comes to it, and writes nothing if it is at it: its writes need the tombstone.
    intents::forget(&mut tx, intents::Owner::Index(index_id)).await?;
    attachments::forget_index(&mut tx, index_id).await?;
    indexes::delete_tombstone(&mut tx, index_id).await?;
    tx.commit().await?;
    tracing::warn!(index.id = %index_id, provider = provider_type, "a deletion was given up: what is at the provider stays");
    Ok(StatusCode::NO_CONTENT)
}

fn payload(row: &Tombstone) -> IndexDelete {
    IndexDelete {
        index_id: row.index.id,
        domain_id: row.index.domain_id.clone(),
    }
}
