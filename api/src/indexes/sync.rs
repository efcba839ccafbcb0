//! `POST /indexes/{index_id}/sync`: what the provider says of one index, fetched by a job.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use rag_db::store_polls::{self, StorePoll};
use rag_db::{indexes, indexes::Index};
use rag_domain::IndexId;
use rag_jobs::IndexSync;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::IndexOut;
use super::build::require_connection;
use crate::http::edge::RequestId;
use crate::http::extract::{Domain, Id, Params, Prefer, PreferHeader};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::openapi::schemas::IndexingStatusSchema;
use crate::state::App;

/// How to sync.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SyncParams {
    /// Ask the provider even if the last sync is recent.
    #[param(default = false)]
    force: bool,
}

/// An index after its sync.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncedIndex)]
pub(super) struct SyncedOut {
    #[serde(flatten)]
    index: IndexOut,
    /// null: the job failed, and says why.
    sync_report: Option<SyncReport>,
    /// The job, which has ended; null: the last sync was recent enough.
    job: Option<JobOut>,
}

/// What a sync found in an index's store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[derive(Default)]
struct SyncReport {
    /// The store that was listed.
    #[schema(example = "vs_68f0c2")]
    external_id: String,
    /// The provider's own word for the store's state; null: the store is gone.
    #[schema(example = "completed")]
    store_status: Option<String>,
    file_counts: StoreFileCounts,
    #[schema(value_type = IndexingStatusSchema)]
    indexing_status_before: String,
    #[schema(value_type = IndexingStatusSchema)]
    indexing_status: String,
    /// Files whose state was another in our rows.
    files_changed: u64,
    /// Files that our rows have as attached and that two listings, some time apart, no longer show. The index is failed until the
    /// next build attaches them again.
    files_missing: u64,
    /// Files that the store's listing lacks, without a second listing as proof: nothing was changed because of them.
    files_uncertain: u64,
    /// Files that somebody else attached: a sync of the provider takes them over.
    files_unknown: u64,
    /// The store is gone at the provider.
    gone: bool,
    /// The index has given up its store: the next build makes another one.
    detached: bool,
    /// What the provider did not tell, and why: nothing was changed because of it. null: everything was seen.
    unknown: Option<String>,
    /// The provider was not asked again, because the last sync is recent.
    fresh: bool,
    looked_at: Option<DateTime<Utc>>,
}

/// The store's files by their state, as the provider tells.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
struct StoreFileCounts {
    in_progress: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
}

/// Ask the provider about an index
///
/// Reads the index's vector store and lists its files once, and copies what the provider says: the whole description of the
/// store into `metadata.provider_payload`, the states of the files, and from them `indexing_status`. It never waits for
/// indexing. An index whose store is gone is detached from it. What the provider does not show any more counts as gone only if
/// a second listing, `MISSING_CONFIRM_SECONDS` later, agrees; the job waits for it.
///
/// The sync is a job, which waits while a build of the index is active. With `Prefer: wait=N` the answer comes when the job has
/// ended: 200 with the index and `sync_report`. If the last sync is only seconds old, the answer is 200 with its report at
/// once, unless `force` is set.
#[utoipa::path(post, path = "/indexes/{index_id}/sync", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index"), SyncParams, PreferHeader),
    responses(
        (status = 200, description = "With `Prefer: wait`: the index after the sync; or, at once, after a recent one",
            body = SyncedOut,
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 202, description = "The job that syncs it", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 404, description = "No such index in this domain"),
        (status = 409, description = "The index has no vector store, or its provider no connection that is switched on"),
    ))]
pub(super) async fn sync_index(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    Params(params): Params<SyncParams>,
    prefer: Prefer,
    Extension(request_id): Extension<RequestId>,
) -> Result<Response, Problem> {
    let mut tx = app.begin().await?;
    let index = indexes::lock(&mut tx, &domain, index_id).await?;
    if index.external_id.is_none() {
        return Err(Problem::conflict(
            "the index has no vector store yet: it must be built first",
        ));
    }
    require_connection(&mut tx, &index.provider_type).await?;
    let fresh = app.settings.sync.fresh;
    if !params.force
        && let Some(poll) = store_polls::find_fresh(&mut tx, index_id, fresh).await?
    {
        return Ok(Json(recent(index, &poll)).into_response());
    }
    let payload = IndexSync {
        index_id,
        domain_id: domain.clone(),
        keep_gone: false,
    };
    let id = app.enqueue(tx, &payload, Some(&request_id)).await?;
    app.jobs()
        .answer(prefer, id, async |job| {
            let index = indexes::get(&mut *app.connection().await?, &domain, index_id).await?;
            Ok(SyncedOut {
                index: index.into(),
                sync_report: job.output().and_then(|output| report(output, job.finished_at())),
                job: Some(job),
            })
        })
        .await
}

fn recent(index: Index, poll: &StorePoll) -> SyncedOut {
    let report = report(&poll.report, Some(poll.polled_at));
    SyncedOut {
        index: index.into(),
        sync_report: report.map(|report| SyncReport {
            fresh: true,
            ..report
        }),
        job: None,
    }
}

fn report(value: &Value, looked_at: Option<DateTime<Utc>>) -> Option<SyncReport> {
    let report = SyncReport::deserialize(value).ok()?;
    Some(SyncReport { looked_at, ..report })
}
