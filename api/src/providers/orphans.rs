//! `/admin/providers/{provider_type}/orphans`: searches for what we made at a provider and no row refers to.

use apalis_mariadb::{JobId, JobKind as _};
use axum::Json;
use axum::extract::State;
use http::header::LOCATION;
use http::{HeaderName, StatusCode};
use rag_jobs::{OrphanMode, OrphanReconcile};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{provider_jobs, require_known};
use crate::http::extract::{Id, OptionalBody, Params};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

const MAX_CONFIRMED: usize = 1000;
/// Longer ids are never stored, so they cannot be ids of unproven files.
const MAX_ID_BYTES: usize = 255;

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

/// What an admin has decided.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = OrphanSearchIn)]
pub(super) struct SearchIn {
    /// Ids of files that an earlier search reported as `unproven`, and of which you know that they are this installation's:
    /// those that this search finds unproven again are deleted, in either mode. Ids of others change nothing.
    #[schema(max_items = 1000)]
    confirmed_files: Vec<String>,
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
/// By a job. Its output counts what the provider has, what our rows refer to, and what we made and no row refers to
/// (`orphans`), and names the latter, up to 1000. With `mode=delete` orphans are deleted. What is younger than
/// `ORPHANS_MIN_AGE_SECONDS` is left alone, and so is what may be ours without proof (`unproven`): another
/// installation's stores on the same account, say, or a file with the name and size of an upload whose answer was lost
/// (`may_be_of` says which). An admin can confirm such files in `confirmed_files`. While a search in the same
/// mode is active, another call answers that one, unless it confirms files.
#[utoipa::path(post, path = "/admin/providers/{provider_type}/orphans", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"), SearchParams),
    request_body = Option<SearchIn>,
    responses(
        (status = 202, description = "The job that searches", body = JobOut,
            headers(("Location" = String, description = "Where its report can be read"))),
        (status = 400, description = "No such mode"),
        (status = 422, description = "Too many files"),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn search_orphans(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    Params(params): Params<SearchParams>,
    OptionalBody(body): OptionalBody<SearchIn>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<JobOut>), Problem> {
    require_known(&app, &provider_type)?;
    let mut confirmed_files = body.confirmed_files;
    if confirmed_files.len() > MAX_CONFIRMED {
        let text = format!("at most {MAX_CONFIRMED} files at once");
        return Err(Problem::invalid_field("confirmed_files", text));
    }
    confirmed_files.retain(|id| id.len() <= MAX_ID_BYTES);
    let location = format!("/api/v1/admin/providers/{provider_type}/orphans");
    let job = OrphanReconcile {
        provider_type,
        mode: match params.mode {
            ModeIn::Report => OrphanMode::Report,
            ModeIn::Delete => OrphanMode::Delete,
        },
        confirmed_files,
    };
    let (id, job) = provider_jobs::enqueue(&app, &job).await?;
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
