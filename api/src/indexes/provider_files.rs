//! `GET /indexes/{index_id}/provider-files` (R-B3): for each file what we hold, its copy at the provider, and its state in the
//! vector store.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rag_db::attachments::{self, Attachment};
use rag_db::composition::{self, Member};
use rag_db::indexes;
use rag_domain::{AttachmentState, BuildPlan, ChunkingStrategy, DesiredFile, FileId, IndexId, PresentFile};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::store_files::{self, StoreFilesOut};
use crate::http::extract::{Domain, Id, Params};
use crate::http::problem::Problem;
use crate::openapi::schemas::SentChunkingSchema;
use crate::providers::ListingParams;
use crate::state::App;

/// An index's files at its provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderFiles)]
pub(super) struct ProviderFilesOut {
    external_store_id: Option<String>,
    /// The files of the index, in its order.
    items: Vec<ProviderFileOut>,
    /// Files attached to the vector store that are no longer in the index; the next build detaches them.
    leaving: Vec<AttachmentOut>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderFile)]
struct ProviderFileOut {
    file: LocalFileOut,
    /// Its state: pending (the next build attaches it) | in_progress | completed | failed | cancelled.
    #[schema(example = "completed")]
    status: &'static str,
    /// Why it failed, at its upload or at its indexing.
    last_error: Option<String>,
    /// What kind of failure that is: a code of the provider's, or a word of ours, such as `local_corruption` and
    /// `contents_missing` (the bytes that we hold), `given_up` and `not_attached` (a build that ended early).
    error_code: Option<String>,
    /// The strategy it is to be chunked with: the link's, else the file's, else the index's; null: the provider's default.
    #[schema(value_type = Option<SentChunkingSchema>)]
    chunking_strategy: Option<ChunkingStrategy>,
    /// Whether the vector store has that strategy; null while the file is not attached as wanted.
    chunking: Option<ChunkingOut>,
    /// Its copy at the provider.
    upload: Option<UploadOut>,
    /// Its attachments to the vector store: one, or two while a new version replaces an old one.
    attachments: Vec<AttachmentOut>,
}

/// What was asked for, held against what the provider reports.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChunkingProof)]
struct ChunkingOut {
    /// null: nothing was asked for.
    #[schema(value_type = Option<SentChunkingSchema>)]
    asked: Option<ChunkingStrategy>,
    /// null: the provider reports nothing, or has not yet.
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    reported: Option<Value>,
    /// false: the provider reports another strategy than the one that was asked for, or refused it. null: that can't be told,
    /// because nothing was asked for, nothing is reported, or `auto` or `other` is.
    matches: Option<bool>,
}

/// What we hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LocalFile)]
struct LocalFileOut {
    #[schema(value_type = uuid::Uuid)]
    id: FileId,
    file_name: String,
    file_type: String,
    size_bytes: u64,
    sha256: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderUpload)]
struct UploadOut {
    /// pending | uploaded | failed | deleted
    #[schema(example = "uploaded")]
    status: &'static str,
    external_file_id: Option<String>,
    /// Of the contents that were uploaded.
    content_sha256: String,
    /// These are the contents that we hold now.
    is_current: bool,
    error_code: Option<String>,
    last_error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attachment)]
struct AttachmentOut {
    #[schema(value_type = uuid::Uuid)]
    file_id: FileId,
    /// In the provider's Files API.
    external_file_id: String,
    /// Within the vector store.
    external_store_file_id: String,
    /// pending | attaching | in_progress | completed | failed | cancelled | detaching
    #[schema(example = "completed")]
    state: &'static str,
    content_sha256: String,
    /// As asked for.
    #[schema(value_type = Option<SentChunkingSchema>)]
    chunking_strategy: Option<ChunkingStrategy>,
    /// As the provider reports it.
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    reported_strategy: Option<Value>,
    /// false: the provider attached the file without the strategy that was asked for; null: not known, or none was.
    chunking_strategy_applied: Option<bool>,
    usage_bytes: Option<u64>,
    error_code: Option<String>,
    last_error: Option<String>,
    attached_at: Option<DateTime<Utc>>,
    /// Since when the store's listing does not show the file although it should; null: it does, as far as is known.
    missed_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
}

/// Whom to ask, and for which part.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SourceParams {
    /// `rows`: everything, as of the last sync or build. `provider`: what the provider lists at this moment, page by page.
    #[param(inline, value_type = Option<Source>, default = "rows")]
    source: Option<Source>,
    /// With `source=provider` (else it is ignored): how many items at most; a provider may answer fewer.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// With `source=provider` (else it is ignored): `next_cursor` of the page before.
    #[param(max_length = 512)]
    cursor: Option<String>,
}

/// Where the answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FilesSource)]
enum Source {
    Rows,
    Provider,
}

/// From rows the index's files, from the provider a page of the store's.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ProviderFilesResult)]
pub(super) enum ProviderFilesResult {
    Rows(ProviderFilesOut),
    Live(StoreFilesOut),
}

/// List an index's files as they are at its provider
///
/// As of the last sync or build or, with `source=provider`, as the provider lists them now.
#[utoipa::path(get, path = "/indexes/{index_id}/provider-files", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index"), SourceParams),
    responses(
        (status = 200, description = "The files", body = ProviderFilesResult),
        (status = 404, description = "No such index in this domain"),
        (status = 409, description = "With `source=provider`: the index was never built, or its provider is not connected \
            or switched off"),
        (status = 502, description = "With `source=provider`: the provider failed"),
    ))]
pub(super) async fn list_provider_files(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    Params(params): Params<SourceParams>,
) -> Result<Json<ProviderFilesResult>, Problem> {
    let listing = ListingParams {
        limit: params.limit,
        cursor: params.cursor,
    };
    let page = listing.check()?;
    if params.source == Some(Source::Provider) {
        let live = store_files::read(&app, &domain, index_id, page).await?;
        return Ok(Json(ProviderFilesResult::Live(live)));
    }
    let mut connection = app.connection().await?;
    let index = indexes::get(&mut connection, &domain, index_id).await?;
    let members = composition::list(&mut connection, &domain, index_id).await?;
    let mut rows: HashMap<FileId, Vec<Attachment>> = HashMap::new();
    for row in attachments::list(&mut connection, index_id).await? {
        rows.entry(row.local_file_id).or_default().push(row);
    }
    let items = members
        .into_iter()
        .map(|member| {
            let own = rows.remove(&member.desired.file_id).unwrap_or_default();
            ProviderFileOut::new(member, own)
        })
        .collect();
    let mut leaving: Vec<Attachment> = rows.into_values().flatten().collect();
    leaving.sort_by_key(|row| (row.created_at, row.id));
    let leaving = leaving.into_iter().map(AttachmentOut::from).collect();
    Ok(Json(ProviderFilesResult::Rows(ProviderFilesOut {
        external_store_id: index.external_id,
        items,
        leaving,
    })))
}

impl ProviderFileOut {
    fn new(member: Member, rows: Vec<Attachment>) -> Self {
        let Member {
            desired,
            file_name,
            file_type,
            external_file_id,
            upload_error,
            upload_error_code,
            ..
        } = member;
        let (attached, status) = overall(&desired, &rows);
        let (error_code, last_error) = match attached {
            None if status == "failed" => (upload_error_code.clone(), upload_error.clone()),
            Some(row) if row.state.is_settled() => (row.error_code.clone(), row.last_error.clone()),
            _ => (None, None),
        };
        let chunking = attached.map(|row| ChunkingOut {
            asked: row.chunking_strategy,
            reported: row.reported_strategy.clone(),
            matches: row.chunking_proof().matches(),
        });
        let upload = desired.upload.map(|upload| UploadOut {
            status: upload.status.as_str(),
            external_file_id,
            is_current: upload.content_sha256 == desired.content_sha256
                && upload.is_named(&desired.file_name),
            content_sha256: upload.content_sha256,
            error_code: upload_error_code,
            last_error: upload_error,
        });
        Self {
            file: LocalFileOut {
                id: desired.file_id,
                file_name,
                file_type,
                size_bytes: desired.size_bytes,
                sha256: desired.content_sha256,
            },
            status,
            last_error,
            error_code,
            chunking_strategy: desired.strategy,
            chunking,
            upload,
            attachments: rows.into_iter().map(AttachmentOut::from).collect(),
        }
    }
}

/// The plan of a build for this file alone gives its state, and which of its attachments is the wanted one.
fn overall<'a>(desired: &DesiredFile, rows: &'a [Attachment]) -> (Option<&'a Attachment>, &'static str) {
    let present: Vec<_> = rows.iter().map(PresentFile::from).collect();
    let plan = BuildPlan::new(std::slice::from_ref(desired), &present);
    if !plan.upload_failed.is_empty() {
        return (None, "failed");
    }
    let attached = rows.iter().find(|row| plan.keep.contains(&row.id));
    match attached {
        None => (None, "pending"),
        Some(row) => match row.state {
            AttachmentState::Pending | AttachmentState::Attaching => (attached, "in_progress"),
            state => (attached, state.as_str()),
        },
    }
}

impl From<Attachment> for AttachmentOut {
    fn from(row: Attachment) -> Self {
        Self {
            file_id: row.local_file_id,
            external_store_file_id: row.store_file_id().to_owned(),
            external_file_id: row.external_file_id,
            state: row.state.as_str(),
            content_sha256: row.content_sha256,
            chunking_strategy: row.chunking_strategy,
            reported_strategy: row.reported_strategy,
            chunking_strategy_applied: row.strategy_applied,
            usage_bytes: row.usage_bytes,
            error_code: row.error_code,
            last_error: row.last_error,
            attached_at: row.attached_at,
            missed_at: row.missed_at,
            updated_at: row.updated_at,
        }
    }
}
