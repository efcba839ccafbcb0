//! `GET /indexes/{index_id}/status`: where the index stands, from rows alone.

use apalis_mariadb::JobKind as _;
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rag_db::{attachments, builds, composition, indexes};
use rag_domain::{BuildPlan, IndexId, PresentFile};
use rag_jobs::IndexBuild;
use serde::Serialize;
use utoipa::ToSchema;

use super::build::unique_key;
use crate::extract::{Domain, Id};
use crate::problem::Problem;
use crate::routes::jobs::{self, JobOut};
use crate::schemas::IndexingStatusSchema;
use crate::state::App;

/// Where an index stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IndexStatus)]
pub(super) struct StatusOut {
    #[schema(value_type = uuid::Uuid)]
    index_id: IndexId,
    #[schema(value_type = IndexingStatusSchema)]
    indexing_status: &'static str,
    external_id: Option<String>,
    /// Start of the last indexing attempt.
    indexed_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    file_counts: FileCountsOut,
    /// The build that is active now.
    job: Option<JobOut>,
    /// The build that began last, active or over.
    last_job_id: Option<String>,
}

/// The index's files by their state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileCounts)]
struct FileCountsOut {
    total: u64,
    /// Not at the provider as wanted; a build has to take them there.
    pending: u64,
    /// The provider indexes them.
    in_progress: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
}

/// Read where an index stands
///
/// Answered from the database, whatever the provider does.
#[utoipa::path(get, path = "/indexes/{index_id}/status", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index")),
    responses(
        (status = 200, description = "Its status", body = StatusOut),
        (status = 404, description = "No such index in this domain"),
    ))]
pub(super) async fn get_status(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
) -> Result<Json<StatusOut>, Problem> {
    let mut connection = app.connection().await?;
    let index = indexes::get(&mut connection, &domain, index_id).await?;
    let desired: Vec<_> = composition::list(&mut connection, &domain, index_id)
        .await?
        .into_iter()
        .map(|member| member.desired)
        .collect();
    let present: Vec<_> = attachments::list(&mut connection, index_id)
        .await?
        .iter()
        .map(PresentFile::from)
        .collect();
    let plan = BuildPlan::new(&desired, &present);
    let last_job_id = builds::find_latest(&mut connection, index_id)
        .await?
        .map(|build| build.job_id);
    let active = app
        .queue
        .find_active(&mut connection, IndexBuild::KIND, &unique_key(&index))
        .await?;
    drop(connection);
    let job = match active {
        Some(id) => jobs::find(&app, &domain, id).await?,
        None => None,
    };
    let pending = plan.attach.len() as u64;
    Ok(Json(StatusOut {
        index_id,
        indexing_status: index.indexing_status.as_str(),
        external_id: index.external_id,
        indexed_at: index.indexed_at,
        last_error: index.last_error,
        file_counts: FileCountsOut {
            total: plan.counts.total(),
            pending,
            in_progress: plan.counts.in_progress.saturating_sub(pending),
            completed: plan.counts.completed,
            failed: plan.counts.failed,
            cancelled: plan.counts.cancelled,
        },
        job,
        last_job_id,
    }))
}
