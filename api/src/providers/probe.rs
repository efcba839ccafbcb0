//! `/admin/providers/{provider_type}/probe`: tries at a provider what this service relies on.

use apalis_mariadb::{JobId, JobKind as _};
use axum::Json;
use axum::extract::State;
use http::header::LOCATION;
use http::{HeaderName, StatusCode};
use rag_jobs::ProviderProbe;
use serde::Serialize;
use utoipa::ToSchema;

use super::{provider_jobs, require_known};
use crate::http::extract::Id;
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

/// The latest probes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderProbes)]
pub(super) struct ProbesOut {
    /// Newest first; what a probe found is its `output`.
    items: Vec<JobOut>,
}

/// Probe a provider
///
/// By a job that makes one small store and three small files at the provider, tries every operation that this service relies
/// on, and deletes them again. Its output has a `verdict` (`works`, `differs`: builds work all the same, `unusable`), a
/// `summary`, and `checks`: for each operation whether it works, differs, is missing or failed, how, and how long the call
/// took. What it learns about the ways to attach files is stored with the connection and used by builds. Run
/// it first at a new account. While a probe of this provider is active, another call answers that one.
#[utoipa::path(post, path = "/admin/providers/{provider_type}/probe", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 202, description = "The job that probes", body = JobOut,
            headers(("Location" = String, description = "Where its report can be read"))),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn probe_provider(
    State(app): State<App>,
    Id(provider_type): Id<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<JobOut>), Problem> {
    require_known(&app, &provider_type)?;
    let location = format!("/api/v1/admin/providers/{provider_type}/probe");
    let job = ProviderProbe { provider_type };
    let (id, job) = provider_jobs::enqueue(&app, &job).await?;
    let location = format!("{location}/{id}");
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(job)))
}

/// List the latest probes
#[utoipa::path(get, path = "/admin/providers/{provider_type}/probe", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 200, description = "The latest probes", body = ProbesOut),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn list_provider_probes(
    State(app): State<App>,
    Id(provider_type): Id<String>,
) -> Result<Json<ProbesOut>, Problem> {
    let items = provider_jobs::list_latest(&app, ProviderProbe::KIND, &provider_type).await?;
    Ok(Json(ProbesOut { items }))
}

/// Read a probe
#[utoipa::path(get, path = "/admin/providers/{provider_type}/probe/{job_id}", tag = "admin: providers",
    params(
        ("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("job_id" = uuid::Uuid, Path, description = "The job that probes")),
    responses(
        (status = 200, description = "The probe; what it found is its `output`", body = JobOut),
        (status = 404, description = "No such provider, or no such probe"),
    ))]
pub(super) async fn get_provider_probe(
    State(app): State<App>,
    Id((provider_type, job_id)): Id<(String, JobId)>,
) -> Result<Json<JobOut>, Problem> {
    let found = provider_jobs::find(&app, ProviderProbe::KIND, &provider_type, job_id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("probe"))
}
