//! `POST /indexes/{index_id}/build`: enqueues the build and answers its job.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use rag_db::indexes::Index;
use rag_db::{connections, indexes};
use rag_domain::{DomainId, IndexId};
use rag_jobs::IndexBuild;
use serde::{Deserialize, Serialize};
use sqlx::MySqlConnection;
use utoipa::{IntoParams, ToSchema};

use super::IndexOut;
use super::plan::{self, PlanOut};
use crate::http::edge::RequestId;
use crate::http::extract::{Domain, Id, Params, Prefer, PreferHeader};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

/// How to build.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct BuildParams {
    /// Give up the present vector store and make a new one.
    #[param(default = false)]
    recreate: bool,
    /// Upload every file again, whatever the provider has.
    #[param(default = false)]
    force_upload: bool,
    /// Enqueue nothing; answer 200 with what a build would do.
    #[param(default = false)]
    dry_run: bool,
}

/// What a build has made of its index.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BuiltIndex)]
pub(super) struct BuiltOut {
    #[serde(flatten)]
    index: IndexOut,
    /// The job, which is over.
    job: JobOut,
}

/// With `dry_run` the plan, else the index and the job that has built it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = BuildResult)]
#[expect(dead_code, reason = "described, never constructed")]
pub(super) enum BuildResult {
    Plan(PlanOut),
    Built(Box<BuiltOut>),
}

/// Build an index
///
/// Makes the vector store if there is none, uploads and attaches the files, waits for the provider to index them. While
/// a build of the index is active, another call answers the active one's job, whatever its parameters.
///
/// With `Prefer: wait=N` the answer comes when the job is over: 200 with the index as it is then, whatever became of the
/// build. If that takes more than N seconds (at most 30), the answer is the usual 202.
#[utoipa::path(post, path = "/indexes/{index_id}/build", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index"), BuildParams, PreferHeader),
    responses(
        (status = 200, description = "With `dry_run`: what a build would do. With `Prefer: wait`: what it has done",
            body = BuildResult,
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 202, description = "The job that builds the index", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 404, description = "No such index in this domain"),
        (status = 409, description = "The provider has no connection, or it is switched off"),
    ))]
pub(super) async fn build_index(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    Params(params): Params<BuildParams>,
    prefer: Prefer,
    Extension(request_id): Extension<RequestId>,
) -> Result<Response, Problem> {
    if params.dry_run {
        let mut connection = app.connection().await?;
        let index = indexes::get(&mut connection, &domain, index_id).await?;
        let plan = plan::read(&mut connection, &index, params.recreate, params.force_upload).await?;
        return Ok(Json(plan).into_response());
    }
    let mut tx = app.begin().await?;
    let index = indexes::lock(&mut tx, &domain, index_id).await?;
    require_connection(&mut tx, &index.provider_type).await?;
    let payload = payload(&index, domain.clone(), &params);
    let id = app.enqueue(tx, &payload, Some(&request_id)).await?;
    app.jobs()
        .answer(prefer, id, async |job| {
            let index = indexes::get(&mut *app.connection().await?, &domain, index_id).await?;
            let index = index.into();
            Ok(BuiltOut { index, job })
        })
        .await
}

fn payload(index: &Index, domain_id: DomainId, params: &BuildParams) -> IndexBuild {
    IndexBuild {
        index_id: index.id,
        domain_id,
        recreate: params.recreate,
        force_upload: params.force_upload,
    }
}

/// answered at once instead of by a job that cannot start.
pub(super) async fn require_connection(db: &mut MySqlConnection, provider_type: &str) -> Result<(), Problem> {
    match connections::find(db, provider_type).await? {
        None => Err(Problem::conflict(format!(
            "provider `{provider_type}` has no connection yet"
        ))),
        Some(connection) if !connection.is_enabled => Err(Problem::conflict(format!(
            "the connection to provider `{provider_type}` is switched off"
        ))),
        Some(_) => Ok(()),
    }
}
