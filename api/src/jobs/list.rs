//! `GET /jobs` and `GET /jobs/{job_id}`.

use apalis_mariadb::{JobFilter, JobId};
use axum::Json;
use axum::extract::State;
use rag_domain::IndexId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Jobs;
use super::view::JobOut;
use crate::http::extract::{Domain, Id, Params};
use crate::http::paging::Page;
use crate::http::problem::Problem;
use crate::openapi::schemas::JobStateSchema;

/// Which jobs to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct JobsParams {
    /// Only jobs of this kind.
    #[param(example = "index_build", pattern = "^[A-Za-z0-9_.:-]{0,64}$")]
    kind: Option<String>,
    /// Only jobs in this state.
    #[param(inline, value_type = Option<JobStateSchema>)]
    state: Option<String>,
    /// Only jobs that work on this index.
    #[param(value_type = Option<uuid::Uuid>)]
    index_id: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List jobs
///
/// Newest first, without their progress: `GET /jobs/{job_id}` has it.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(JobsParams), responses(
    (status = 200, description = "A page of the domain's jobs", body = Page<JobOut>),
))]
pub(super) async fn list_jobs(
    State(jobs): State<Jobs>,
    Domain(domain): Domain,
    Params(params): Params<JobsParams>,
) -> Result<Json<Page<JobOut>>, Problem> {
    let is_kind = |kind: &String| {
        kind.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
    };
    if params
        .kind
        .as_ref()
        .is_some_and(|kind| kind.len() > 64 || !is_kind(kind))
    {
        return Err(Problem::malformed("kind is not the name of a kind of jobs"));
    }
    let limit = params.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Problem::malformed("limit must be 1 to 200"));
    }
    let state = params.state.map(|state| state.parse()).transpose();
    let after = params.cursor.map(|cursor| cursor.parse()).transpose();
    let index_id = params.index_id.map(|id| id.parse::<IndexId>()).transpose();
    let index_id = index_id.map_err(|_| Problem::malformed("index_id is not the id of an index"))?;
    let filter = JobFilter {
        concurrency_key: index_id.map(rag_jobs::index_concurrency_key),
        tenant: Some(domain.to_string()),
        kind: params.kind,
        state: state.map_err(|_| Problem::malformed("state is not one of a job's states"))?,
    };
    let page = apalis_mariadb::Page {
        limit,
        after: after.map_err(|_| Problem::malformed("cursor is not a next_cursor that this API gave"))?,
    };
    let page = jobs.queue().list_jobs(&filter, &page).await?;
    Ok(Json(Page {
        items: page.items.into_iter().map(JobOut::listed).collect(),
        next_cursor: page.next.map(String::from),
    }))
}

/// Read a job
#[utoipa::path(get, path = "/jobs/{job_id}", tag = "jobs",
    params(("job_id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The job", body = JobOut),
        (status = 404, description = "No such job in this domain"),
    ))]
pub(super) async fn get_job(
    State(jobs): State<Jobs>,
    Domain(domain): Domain,
    Id(job_id): Id<JobId>,
) -> Result<Json<JobOut>, Problem> {
    Ok(Json(jobs.get(&domain, job_id).await?))
}
