//! `/admin/providers/{provider_type}/orphans`: searches for what we made at a provider and no row of ours speaks of.

use apalis_mariadb::{JobId, JobKind as _};
use axum::Json;
use axum::extract::State;
use http::header::LOCATION;
use http::{HeaderName, StatusCode};
use rag_jobs::{OrphanMode, OrphanReconcile};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{provider_jobs, require_known};
use crate::extract::{Id, Params};
use crate::problem::Problem;
use crate::routes::jobs::JobOut;
use crate::state::App;

/// What becomes of what is found.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrphanMode)]
pub(super) enum ModeIn {
    /// It is only reported.
    #[default]
    Report,
    /// What is provably ours is deleted.
    Delete,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchParams {
    #[param(inline, default = "report")]
    mode: ModeIn,
}

/// The latest searches.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrphanSearches)]
pub(super) struct SearchesOut {
    /// Newest first; what a search found is its `output`.
    items: Vec<JobOut>,
}

/// Search a provider for orphans
///
/// By a job. Its output counts what the provider has, what rows of ours speak of, and what we made without a row speaking of
/// it (`orphans`), and names the latter, up to 1000. With `mode=delete` orphans are deleted. What is younger than
/// `ORPHANS_MIN_AGE_SECONDS` is left alone, and so is whatever looks like ours without a proof (`unproven`): another
/// installation's stores on the same account, say. While a search in the same mode is active, another call answers that one.
#[utoipa::path(post, path = "/admin/providers/{provider_type}/orphans", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"), SearchParams),
    responses(
        (status = 202, description = "The job that searches", body = JobOut,
            headers(("Location" = String, description = "Where its report can be read"))),
        (status = 400, description = "No such mode"),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn search_orphans(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    Params(params): Params<SearchParams>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<JobOut>), Problem> {
    require_known(&app, &provider_type)?;
    let location = format!("/api/v1/admin/providers/{provider_type}/orphans");
    let job = OrphanReconcile {
        provider_type,
        mode: match params.mode {
            ModeIn::Report => OrphanMode::Report,
            ModeIn::Delete => OrphanMode::Delete,
        },
    };
    let (id, job) = provider_jobs::enqueue(&app, job.to_job()?, OrphanReconcile::KIND).await?;
    let location = format!("{location}/{id}");
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(job)))
}

/// List the latest searches for orphans
#[utoipa::path(get, path = "/admin/providers/{provider_type}/orphans", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 200, description = "The latest searches", body = SearchesOut),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn list_orphan_searches(
    State(app): State<App>,
    Id(provider_type): Id<String>,
) -> Result<Json<SearchesOut>, Problem> {
    let items = provider_jobs::list_latest(&app, OrphanReconcile::KIND, &provider_type).await?;
    Ok(Json(SearchesOut { items }))
}

/// Read a search for orphans
#[utoipa::path(get, path = "/admin/providers/{provider_type}/orphans/{job_id}", tag = "admin: providers",
    params(
        ("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("job_id" = uuid::Uuid, Path, description = "The job that searches")),
    responses(
        (status = 200, description = "The search; what it found is its `output`", body = JobOut),
        (status = 404, description = "No such provider, or no such search"),
    ))]
pub(super) async fn get_orphan_search(
    State(app): State<App>,
    Id((provider_type, job_id)): Id<(String, JobId)>,
) -> Result<Json<JobOut>, Problem> {
    let found = provider_jobs::find(&app, OrphanReconcile::KIND, &provider_type, job_id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("search"))
}
