//! `GET /indexes/{index_id}/status`: where the index stands, from rows alone.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rag_db::DbError;
use rag_domain::IndexId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::EXPIRED_WAY_OUT;
use crate::http::extract::{Domain, Id};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::openapi::schemas::IndexingStatusSchema;
use crate::state::App;
use crate::status_cache::StatusSnapshot;

/// Where an index stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IndexStatus)]
pub(super) struct StatusOut {
    #[schema(value_type = uuid::Uuid)]
    index_id: IndexId,
    #[schema(value_type = IndexingStatusSchema)]
    indexing_status: &'static str,
    external_id: Option<String>,
    vector_store: VectorStoreOut,
    /// Since when the provider does not find the store; whether it is gone is not known before a second look. null: it was there
    /// when last asked for.
    store_missed_at: Option<DateTime<Utc>>,
    /// Start of the last indexing attempt.
    indexed_at: Option<DateTime<Utc>>,
    /// Why the last build failed, or pauses; else why the last sync, or the last search, failed.
    last_error: Option<String>,
    file_counts: FileCountsOut,
    /// The build that is active now.
    job: Option<JobOut>,
    /// The build that began last, active or over.
    last_job_id: Option<String>,
    /// When the provider last told how the files fare, to a build or a sync; null: never yet.
    provider_seen_at: Option<DateTime<Utc>>,
    /// How old that is.
    provider_seen_seconds_ago: Option<u64>,
}

/// How the index's vector store is, as far as builds, syncs and searches have seen it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IndexVectorStore)]
struct VectorStoreOut {
    /// none | live | expired
    #[schema(example = "live")]
    state: &'static str,
    /// When it was first seen expired.
    expired_at: Option<DateTime<Utc>>,
    /// What to do about it.
    way_out: Option<&'static str>,
}

impl VectorStoreOut {
    fn new(external_id: Option<&str>, expired_at: Option<DateTime<Utc>>) -> Self {
        Self {
            state: match (external_id, expired_at) {
                (None, _) => "none",
                (Some(_), None) => "live",
                (Some(_), Some(_)) => "expired",
            },
            expired_at,
            way_out: expired_at.map(|_| EXPIRED_WAY_OUT),
        }
    }
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
/// Answered from the database, whatever the provider does. What you change is in the answer at once, as are the beginning, the
/// progress and the end of a build. Only `file_counts` of a build that is at work, and how many jobs are ahead of one that
/// waits, may be a second old.
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
    let snapshot = app.status_cache().get((domain.clone(), index_id)).await?;
    let StatusSnapshot { state, counts } = snapshot.ok_or(DbError::NotFound("index"))?;
    let job = match state.active_job {
        Some(job) => {
            let id = Uuid::from_slice(&job.id).map_err(Problem::internal)?.to_string();
            let key = (domain, id.parse().map_err(Problem::internal)?);
            app.jobs().find_as_of(key, job.revision).await?
        }
        None => None,
    };
    Ok(Json(StatusOut {
        index_id,
        indexing_status: state.indexing_status.as_str(),
        vector_store: VectorStoreOut::new(state.external_id.as_deref(), state.store_expired_at),
        external_id: state.external_id,
        store_missed_at: state.store_missed_at,
        indexed_at: state.indexed_at,
        last_error: state.last_error,
        file_counts: FileCountsOut {
            total: counts.pending + counts.in_progress + counts.completed + counts.failed + counts.cancelled,
            pending: counts.pending,
            in_progress: counts.in_progress,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
        },
        job,
        last_job_id: state.last_job_id,
        provider_seen_at: state.provider_seen_at,
        provider_seen_seconds_ago: state.provider_seen_at.map(seconds_since),
    }))
}

fn seconds_since(at: DateTime<Utc>) -> u64 {
    // The database's clock may be ahead of ours.
    u64::try_from((Utc::now() - at).num_seconds()).unwrap_or(0)
}
