//! `GET /indexes/{index_id}/provider-files?source=provider`: the vector store's files as the provider lists them at this
//! moment, with the local files that they belong to.

use chrono::{DateTime, Utc};
use rag_domain::{DomainId, FileId, IndexId};
use rag_providers::{PageRequest, VectorStoreFile};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::live_store::{LiveStore, LocalFiles};
use crate::http::problem::{Kind, Problem};
use crate::state::App;

/// A page of a vector store's files, in the provider's order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoreFiles)]
pub(super) struct StoreFilesOut {
    external_store_id: String,
    items: Vec<StoreFileOut>,
    /// Send it as `cursor` to get the next page; null: this was the last.
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoreFile)]
struct StoreFileOut {
    /// The local file; null for an attached file that is not ours.
    #[schema(value_type = Option<uuid::Uuid>)]
    file_id: Option<FileId>,
    file_name: Option<String>,
    /// In the provider's Files API, as far as the provider tells.
    external_file_id: String,
    /// Within the vector store.
    external_store_file_id: String,
    /// in_progress | completed | failed | cancelled, or another word of the provider's.
    #[schema(example = "completed")]
    status: String,
    error_code: Option<String>,
    last_error: Option<String>,
    /// As the provider reports it.
    #[schema(value_type = Option<HashMap<String, Value>>)]
    reported_strategy: Option<Value>,
    usage_bytes: u64,
    created_at: Option<DateTime<Utc>>,
}

/// Asks the provider for one page. No database connection is held meanwhile, and nothing is changed.
pub(super) async fn read(
    app: &App,
    domain: &DomainId,
    index_id: IndexId,
    page: PageRequest,
) -> Result<StoreFilesOut, Problem> {
    let mut connection = app.connection().await?;
    let live = LiveStore::open(app, &mut connection, domain, index_id).await?;
    drop(connection);
    let found = match live.provider.list_store_files(&live.store_id, page, None).await {
        Ok(found) => found,
        Err(error) => {
            live.not_answered(app, "listing of files", &error).await?;
            let detail = format!("provider {}: {error}", live.index.provider_type);
            return Err(Problem::new(Kind::ProviderFailed, detail).because(error));
        }
    };
    live.answered(app).await?;

    let mut connection = app.connection().await?;
    let files = LocalFiles::of(&mut connection, domain, index_id).await?;
    let items = found
        .items
        .into_iter()
        .map(|file| StoreFileOut::new(file, &files));
    Ok(StoreFilesOut {
        external_store_id: live.store_id,
        items: items.collect(),
        next_cursor: found.next.map(|cursor| cursor.0),
    })
}

impl StoreFileOut {
    fn new(file: VectorStoreFile, files: &LocalFiles) -> Self {
        let external_file_id = file.file_id().to_owned();
        let file_id = files.find(&file.id).or_else(|| files.find(&external_file_id));
        let (error_code, last_error) = match file.last_error {
            Some(error) => (Some(error.code), Some(error.message)),
            None => (None, None),
        };
        Self {
            file_id,
            file_name: file_id.and_then(|id| files.name(id)),
            external_file_id,
            external_store_file_id: file.id,
            status: file.status.to_string(),
            error_code,
            last_error,
            reported_strategy: file.chunking_strategy.map(|strategy| strategy.to_value()),
            usage_bytes: file.usage_bytes,
            created_at: file.created_at,
        }
    }
}
