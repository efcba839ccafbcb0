//! `POST /indexes/{index_id}/sync`: what the provider says of one index, fetched by a job.

use apalis_mariadb::{JobKind as _, NewJob};
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
use crate::edge::RequestId;
use crate::enqueue;
use crate::extract::{Domain, Id, Params, Prefer, PreferHeader};
use crate::problem::Problem;
use crate::routes::jobs::JobOut;
use crate::schemas::IndexingStatusSchema;
use crate::state::App;

/// Few, so that a provider in trouble does not keep the builds of the index waiting.
const ATTEMPTS: u32 = 3;

/// How to sync.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SyncParams {
    /// Ask the provider, however fresh what we know is.
    #[param(default = false)]
    force: bool,
}

/// An index after a look at its store.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncedIndex)]
pub(super) struct SyncedOut {
    #[serde(flatten)]
    index: IndexOut,
    /// null: the job failed, and says why.
    sync_report: Option<SyncReport>,
    /// The job, which is over; null: the latest look was fresh enough.
    job: Option<JobOut>,
}

/// What a look at an index's store found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[derive(Default)]
struct SyncReport {
    /// The store that was looked at.
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
    /// Files that were attached by our rows and, by two looks some time apart, no longer are: the index has failed until the next
    /// build attaches them again.
    files_missing: u64,
    /// Files that the store's listing lacks without that being proven: nothing was changed because of them.
    files_uncertain: u64,
    /// Files that somebody else attached: a sync of the provider takes them over.
    files_unknown: u64,
    /// The store is gone at the provider.
    gone: bool,
    /// The index has given up its store: the next build makes another one.
    detached: bool,
    /// What the provider did not let us know, and why: nothing was changed because of it. null: everything was seen.
    unknown: Option<String>,
    /// The look was not repeated, because it was taken a moment ago.
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
/// Takes one look at the index's vector store and its files, and copies what the provider says: the whole description of
/// the store into `metadata.provider_payload`, the states of the files, and from them `indexing_status`. It never waits for
/// indexing. An index whose store is gone is detached from it. What the provider does not show any more counts as gone only if
/// a second look, `MISSING_CONFIRM_SECONDS` later, agrees; the job waits for it.
///
/// The look is a job, which waits for its turn while a build of the index is active. With `Prefer: wait=N` the answer comes
/// when it is over: 200 with the index and `sync_report`. If the latest look is only seconds old, the answer is 200 with
/// that one's report at once, unless `force` is set.
#[utoipa::path(post, path = "/indexes/{index_id}/sync", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index"), SyncParams, PreferHeader),
    responses(
        (status = 200, description = "The index after the look, with `Prefer: wait`; or after one that is still fresh",
            body = SyncedOut,
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 202, description = "The job that takes the look", body = JobOut,
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
            "the index has no vector store yet: there is nothing to look at before it was built",
        ));
    }
    require_connection(&mut tx, &index.provider_type).await?;
    let fresh = app.settings.sync.fresh;
    if !params.force
        && let Some(poll) = store_polls::find_fresh(&mut tx, index_id, fresh).await?
    {
        return Ok(Json(still_fresh(index, &poll)).into_response());
    }
    let payload = IndexSync {
        index_id,
        domain_id: domain.clone(),
        keep_gone: false,
    };
    let job = NewJob::of(&payload)?
        .unique_key(payload.unique_key())
        .concurrency_key(rag_jobs::index_concurrency_key(index_id))
        .tenant(domain.to_string())
        .max_attempts(ATTEMPTS)
        .trace_context(request_id.as_str());
    let enqueued = app.queue.enqueue(&mut tx, job).await?;
    tx.commit().await?;
    app.queue.notify(IndexSync::KIND);
    enqueue::answer(&app, prefer, enqueued.id, async |job| {
        let index = indexes::get(&mut *app.connection().await?, &domain, index_id).await?;
        Ok(SyncedOut {
            index: index.into(),
            sync_report: job.output().and_then(|output| report(output, job.finished_at())),
            job: Some(job),
        })
    })
    .await
}

fn still_fresh(index: Index, poll: &StorePoll) -> SyncedOut {
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
