//! `POST /admin/providers/{provider_type}/sync` and its jobs. They belong to no domain, so admins read them here.

use apalis_mariadb::{Job, JobId, JobKind as _};
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use rag_db::connections;
use rag_jobs::{Compare, ProviderSync};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::require_known;
use crate::http::edge::RequestId;
use crate::http::extract::{Id, Params, Prefer, PreferHeader};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

/// Which files are downloaded to be compared.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SyncCompare)]
pub(super) enum CompareIn {
    /// All that we hold.
    #[default]
    Full,
    /// Those that were not found equal before under the same id at the provider, with the same contents here.
    Once,
}

/// How to sync.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SyncParams {
    /// Change nothing; the result is what a sync would do.
    #[param(default = false)]
    dry_run: bool,
    /// Unlink files that their stores no longer have. Links that no build has carried out yet stay.
    #[param(default = false)]
    strict: bool,
    /// Detach however much is gone.
    #[param(default = false)]
    force: bool,
    /// `once` skips files that were compared before: neither the provider's bytes nor those on disk are read again.
    #[param(inline, default = "full")]
    compare: CompareIn,
}

/// Bring indexes and files into agreement with a provider
///
/// Goes through all vector stores of the provider and all files in them. The provider is right about which stores there are,
/// what they are called and which files they hold; nothing is changed there. A store that no index has becomes one, in the
/// domain `DEFAULT_DOMAIN_ID`; a file that we do not hold is downloaded; a file that we hold stays as it is, and its bytes
/// are compared: of all files, or with `compare=once` of those that were not found equal before, under the same id at the
/// provider and with the same contents here. An index whose store is gone is detached from it, with its files and links kept.
///
/// If more than `SYNC_DELETION_THRESHOLD_PERCENT` of the indexes or files (and more than three) would be detached, the listing may be
/// wrong: the sync stops, and its result says so; `force` goes on.
///
/// The job's `output` has `status` (`done` or `stopped`), the numbers `indexes_created`, `indexes_updated`,
/// `indexes_detached`, `files_created`, `files_kept` (of those `files_compared`, and `files_skipped` as compared before),
/// `index_files_created`, `index_files_deleted`,
/// `provider_uploads_created`, `provider_uploads_deleted`, and the lists `file_results`, `files_byte_mismatches`,
/// `files_corrupted` (files whose bytes here are not those of their record, whatever the provider has), `errors`,
/// `stores_missing`, `stores_extra`, `stores_skipped`, `settings_differ`, `files_missing`, `files_extra`. Lists are cut there
/// (`truncated` names those); `…/syncs/{sync_id}/findings` has them whole.
///
/// While a sync of the provider is active, another call answers the active one's job, whatever its parameters; a report may
/// be made beside it.
#[utoipa::path(post, path = "/admin/providers/{provider_type}/sync", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"), SyncParams, PreferHeader),
    responses(
        (status = 200, description = "With `Prefer: wait`: the job, which is over", body = JobOut,
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 202, description = "The job that syncs", body = JobOut,
            headers(("Location" = String, description = "Where admins read the job"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 400, description = "The query string cannot be read, or `compare` is not one of its values"),
        (status = 404, description = "No such provider"),
        (status = 409, description = "The provider has no connection, or it is switched off"),
    ))]
pub(super) async fn sync_provider(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    Params(params): Params<SyncParams>,
    prefer: Prefer,
    Extension(request_id): Extension<RequestId>,
) -> Result<Response, Problem> {
    require_known(&app, &provider_type)?;
    let mut tx = app.begin().await?;
    // said at once instead of by a job that cannot start.
    match connections::find(&mut tx, &provider_type).await? {
        Some(connection) if connection.is_enabled => {}
        Some(_) => {
            return Err(Problem::conflict(
                "the connection to the provider is switched off",
            ));
        }
        None => return Err(Problem::conflict("the provider has no connection yet")),
    }
    let payload = ProviderSync {
        provider_type: provider_type.clone(),
        dry_run: params.dry_run,
        strict: params.strict,
        force: params.force,
        compare: match params.compare {
            CompareIn::Full => Compare::Full,
            CompareIn::Once => Compare::Once,
        },
    };
    let id = app.enqueue(tx, &payload, Some(&request_id)).await?;
    let location = format!("/api/v1/admin/providers/{provider_type}/syncs/{id}");
    app.jobs()
        .answer_at(prefer, id, location, async |job| Ok(job))
        .await
}

/// Read a sync of a provider
#[utoipa::path(get, path = "/admin/providers/{provider_type}/syncs/{sync_id}", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("sync_id" = uuid::Uuid, Path, description = "The sync's job")),
    responses(
        (status = 200, description = "The job, with its progress and its result", body = JobOut),
        (status = 404, description = "No such sync of this provider"),
    ))]
pub(super) async fn get_provider_sync(
    State(app): State<App>,
    Id((provider_type, id)): Id<(String, JobId)>,
) -> Result<Json<JobOut>, Problem> {
    let job = find(&app, &provider_type, id).await?;
    Ok(Json(app.jobs().with_progress(job).await?))
}

/// Cancel a sync of a provider
///
/// What it has done stays done, and is found again by the next sync.
#[utoipa::path(post, path = "/admin/providers/{provider_type}/syncs/{sync_id}/cancel", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("sync_id" = uuid::Uuid, Path, description = "The sync's job")),
    responses(
        (status = 202, description = "It is cancelled, or will be as soon as its worker hears of it", body = JobOut),
        (status = 404, description = "No such sync of this provider"),
    ))]
pub(super) async fn cancel_provider_sync(
    State(app): State<App>,
    Id((provider_type, id)): Id<(String, JobId)>,
) -> Result<(StatusCode, Json<JobOut>), Problem> {
    find(&app, &provider_type, id).await?;
    app.queue.cancel(id).await?;
    let job = find(&app, &provider_type, id).await?;
    Ok((StatusCode::ACCEPTED, Json(app.jobs().with_progress(job).await?)))
}

/// The job, if it is a sync of this provider.
pub(super) async fn find(app: &App, provider_type: &str, id: JobId) -> Result<Job, Problem> {
    let job = app.queue.find_job(id).await?;
    let of_provider = |job: &Job| {
        job.kind == ProviderSync::KIND
            && job.payload.get("provider_type").and_then(|value| value.as_str()) == Some(provider_type)
    };
    job.filter(of_provider).ok_or_else(|| Problem::not_found("sync"))
}
