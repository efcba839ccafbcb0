//! One look at a store: everything the provider says of it, or an error.

use chrono::{DateTime, Utc};
use rag_domain::{AttachmentState, FileCounts};
use rag_providers::paging::walk_pages;
use rag_providers::{
    Disposition, LastError, Operation, Order, Page, PageRequest, Provider, ProviderError, ReportedStrategy,
    StoreFileStatus, VectorStore, VectorStoreFile, VectorStoreStatus,
};

/// A store with all its files.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) store: VectorStore,
    /// In the order of the listing, oldest first.
    pub(crate) files: Vec<SeenFile>,
    /// Before anything was asked.
    pub(crate) begun_at: DateTime<Utc>,
}

/// A file in a store, without the provider's JSON: a store may have ten thousand of them.
#[derive(Debug, Clone)]
pub(crate) struct SeenFile {
    /// In the Files API.
    pub(crate) file_id: String,
    /// Within the store; often the same.
    pub(crate) store_file_id: String,
    pub(crate) state: AttachmentState,
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) usage_bytes: u64,
    pub(crate) strategy: Option<ReportedStrategy>,
    pub(crate) last_error: Option<LastError>,
}

impl From<VectorStoreFile> for SeenFile {
    fn from(file: VectorStoreFile) -> Self {
        Self {
            file_id: file.file_id().to_owned(),
            state: state(&file.status),
            store_file_id: file.id,
            created_at: file.created_at,
            usage_bytes: file.usage_bytes,
            strategy: file.chunking_strategy,
            last_error: file.last_error,
        }
    }
}

impl SeenFile {
    /// What the store calls the file, if it is not what the Files API calls it.
    pub(crate) fn other_store_id(&self) -> Option<&str> {
        (self.store_file_id != self.file_id).then_some(self.store_file_id.as_str())
    }
}

/// A status that we do not know is no end.
fn state(status: &StoreFileStatus) -> AttachmentState {
    match status {
        StoreFileStatus::Completed => AttachmentState::Completed,
        StoreFileStatus::Failed => AttachmentState::Failed,
        StoreFileStatus::Cancelled => AttachmentState::Cancelled,
        StoreFileStatus::InProgress | StoreFileStatus::Other(_) => AttachmentState::InProgress,
    }
}

impl Look {
    pub(crate) async fn at(provider: &dyn Provider, store_id: &str) -> Result<Self, ProviderError> {
        let begun_at = Utc::now();
        let store = provider.get_vector_store(store_id).await?;
        let files = files_in(provider, &store).await?;
        Ok(Self {
            store,
            files,
            begun_at,
        })
    }

    /// What an expired store lists, or does not, says nothing of its files.
    pub(crate) fn has_expired(&self) -> bool {
        has_expired(&self.store)
    }

    /// The files by their states, as adds them up.
    pub(crate) fn counts(&self) -> FileCounts {
        let mut counts = FileCounts::default();
        for file in &self.files {
            match file.state {
                AttachmentState::Completed => counts.completed += 1,
                AttachmentState::Failed => counts.failed += 1,
                AttachmentState::Cancelled => counts.cancelled += 1,
                _ => counts.in_progress += 1,
            }
        }
        counts
    }
}

fn has_expired(store: &VectorStore) -> bool {
    store.status == VectorStoreStatus::Expired
}

/// As [`files_of`]; an expired store that does not list its files any more has none to show.
pub(crate) async fn files_in(
    provider: &dyn Provider,
    store: &VectorStore,
) -> Result<Vec<SeenFile>, ProviderError> {
    match files_of(provider, &store.id).await {
        Err(error) if has_expired(store) && error.disposition() == Disposition::Fail => Ok(Vec::new()),
        result => result,
    }
}

/// All pages, or an error: a part never passes for the whole.
async fn files_of(provider: &dyn Provider, store_id: &str) -> Result<Vec<SeenFile>, ProviderError> {
    let limit = provider.capabilities().max_page_items;
    walk_pages(Operation::ListStoreFiles, async |after| {
        let request = PageRequest {
            limit: Some(limit),
            after,
            order: Some(Order::Ascending),
        };
        let page = provider.list_store_files(store_id, request, None).await?;
        Ok(Page {
            items: page.items.into_iter().map(SeenFile::from).collect(),
            next: page.next,
        })
    })
    .await
}
