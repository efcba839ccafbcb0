//! `POST /indexes/sync`: what the providers say of all indexes of a domain.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use rag_db::indexes::{self, IndexFilter};
use rag_domain::DomainId;
use rag_jobs::DomainSync;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::IndexOut;
use crate::http::edge::RequestId;
use crate::http::extract::{Domain, Params, Prefer, PreferHeader};
use crate::http::problem::{Kind, Problem};
use crate::jobs::JobOut;
use crate::state::App;

/// Indexes in one answer; `GET /indexes` has all of them.
const MAX_ITEMS: usize = 1000;
const PAGE: u32 = 200;

/// Which indexes to sync, and how.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SyncAllParams {
    /// Only those at this provider.
    #[param(example = "openai")]
    provider_type: Option<String>,
    /// Ask the providers even if the last sync is recent, and detach however many stores are gone.
    #[param(default = false)]
    force: bool,
}

/// A domain's indexes after their sync.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncedIndexes)]
pub(super) struct SyncedAllOut {
    /// Newest first, at most a thousand.
    items: Vec<IndexOut>,
    /// What went wrong, index by index; the job is done all the same.
    errors: Vec<String>,
    /// The job, which is over.
    job: JobOut,
}

/// Ask the providers about all indexes of the domain
///
/// As `POST /indexes/{index_id}/sync` for every index that has a vector store, some at a time. An index that a build is at
/// work on is left to it. If the stores of many indexes at once are gone (more than `SYNC_DELETION_THRESHOLD_PERCENT`, and more than
/// three), none is detached, because the listing may be wrong, and `errors` says so; `force` detaches them.
#[utoipa::path(post, path = "/indexes/sync", tag = "indexes",
    params(SyncAllParams, PreferHeader),
    responses(
        (status = 200, description = "With `Prefer: wait`: the indexes after the sync, and what went wrong",
            body = SyncedAllOut,
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 202, description = "The job that syncs them", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 404, description = "There is no such provider type"),
    ))]
pub(super) async fn sync_indexes(
    State(app): State<App>,
    Domain(domain): Domain,
    Params(params): Params<SyncAllParams>,
    prefer: Prefer,
    Extension(request_id): Extension<RequestId>,
) -> Result<Response, Problem> {
    if let Some(provider_type) = &params.provider_type
        && !app.connections.registry().contains(provider_type)
    {
        return Err(Problem::new(
            Kind::UnknownProvider,
            format!("there is no provider type `{provider_type}`"),
        ));
    }
    let payload = DomainSync {
        domain_id: domain.clone(),
        provider_type: params.provider_type,
        force: params.force,
    };
    let tx = app.begin().await?;
    let id = app.enqueue(tx, &payload, Some(&request_id)).await?;
    app.jobs()
        .answer(prefer, id, async |job| {
            Ok(SyncedAllOut {
                items: items(&app, &domain, payload.provider_type.as_deref()).await?,
                errors: errors(&job),
                job,
            })
        })
        .await
}

async fn items(app: &App, domain: &DomainId, provider: Option<&str>) -> Result<Vec<IndexOut>, Problem> {
    let (mut items, mut before) = (Vec::new(), None);
    let mut connection = app.connection().await?;
    loop {
        let page = indexes::list(&mut connection, domain, &IndexFilter::default(), before, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(items);
        };
        before = Some((last.created_at, last.id));
        let wanted = page
            .into_iter()
            .filter(|index| provider.is_none_or(|provider| index.provider_type == provider));
        items.extend(wanted.map(IndexOut::from));
        if items.len() >= MAX_ITEMS {
            items.truncate(MAX_ITEMS);
            return Ok(items);
        }
    }
}

fn errors(job: &JobOut) -> Vec<String> {
    let listed = job.output().and_then(|output| output.get("errors"));
    let listed = listed.and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(Value::as_str).map(str::to_owned).collect()
}
