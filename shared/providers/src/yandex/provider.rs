//! Yandex's deviations from the dialect, each where it shows. Everything else is the plain client.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rag_domain::ChunkingStrategy;

use crate::contract::{ALREADY_ATTACHED, Provider};
use crate::error::{ErrorKind, ProviderError};
use crate::paging::ProviderExt;
use crate::protocol::{OpenAiClient, not_visible_yet};
use crate::types::{
    AttachFile, Attached, Attributes, Capabilities, Deleted, FileBatch, FileContent, FileUpdate, FileUpload,
    Health, NewVectorStore, Page, PageRequest, ParsedContent, ProviderFile, SearchPage, SearchRequest,
    StoreFileStatus, VectorStore, VectorStoreFile, VectorStoreUpdate,
};

#[derive(Debug)]
pub(super) struct YandexProvider {
    client: OpenAiClient,
}

/// An attach with a strategy is answered with a bare 500, at times.
fn may_be_about_the_strategy(error: &ProviderError) -> bool {
    error.kind == ErrorKind::Unavailable && error.status == Some(500)
}

/// "Files with ids […] have already been created": the attachment exists.
fn says_already_attached(error: &ProviderError) -> bool {
    error.kind == ErrorKind::InvalidRequest && error.message.contains("already been created")
}

/// The file was cut so.
fn is(file: &VectorStoreFile, strategy: ChunkingStrategy) -> bool {
    file.chunking_strategy
        .as_ref()
        .is_some_and(|reported| *reported == strategy)
}

impl YandexProvider {
    pub(super) fn new(client: OpenAiClient) -> Self {
        Self { client }
    }

    /// Attaches, and takes "already" for success.
    async fn attach_once(&self, store_id: &str, file: &AttachFile) -> Result<Attached, ProviderError> {
        match self.client.attach_file(store_id, file.clone()).await {
            Err(error) if says_already_attached(&error) => {
                let attached = self.find_attached(store_id, &file.file_id).await?;
                let as_asked = match &file.chunking_strategy {
                    Some(asked) => is(&attached, *asked),
                    None => true,
                };
                Ok(Attached {
                    file: attached,
                    chunking_strategy_applied: as_asked,
                    already_attached: true,
                })
            }
            result => result,
        }
    }

    /// The attachment of a file, which can be retrieved by its own id only, and not at all while it is being indexed; the
    /// list shows it all the same.
    async fn find_attached(&self, store_id: &str, file_id: &str) -> Result<VectorStoreFile, ProviderError> {
        match self.client.get_store_file(store_id, file_id, None).await {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            result => return result,
        }
        let is_it = |file: &VectorStoreFile| file.id == file_id || file.file_id() == file_id;
        let listed = self.client.all_store_files(store_id, None).await?;
        let listed = listed.into_iter().find(is_it);
        Ok(listed.unwrap_or_else(|| not_visible_yet(store_id, file_id, Utc::now())))
    }

    async fn batch_once(&self, store_id: &str, files: Vec<AttachFile>) -> Result<FileBatch, ProviderError> {
        self.client
            .create_file_batch(store_id, files)
            .await
            .map_err(|error| {
                if says_already_attached(&error) {
                    return ProviderError {
                        code: Some(ALREADY_ATTACHED.into()),
                        ..error
                    };
                }
                error
            })
    }
}

#[async_trait]
impl Provider for YandexProvider {
    fn provider_type(&self) -> &str {
        self.client.provider_type()
    }

    fn capabilities(&self) -> &Capabilities {
        self.client.capabilities()
    }

    async fn create_vector_store(&self, store: NewVectorStore) -> Result<VectorStore, ProviderError> {
        self.client.create_vector_store(store).await
    }

    async fn list_vector_stores(&self, page: PageRequest) -> Result<Page<VectorStore>, ProviderError> {
        self.client.list_vector_stores(page).await
    }

    async fn get_vector_store(&self, store_id: &str) -> Result<VectorStore, ProviderError> {
        self.client.get_vector_store(store_id).await
    }

    async fn update_vector_store(
        &self,
        store_id: &str,
        update: VectorStoreUpdate,
    ) -> Result<VectorStore, ProviderError> {
        self.client.update_vector_store(store_id, update).await
    }

    async fn delete_vector_store(&self, store_id: &str) -> Result<Deleted, ProviderError> {
        self.client.delete_vector_store(store_id).await
    }

    async fn search_vector_store(
        &self,
        store_id: &str,
        search: SearchRequest,
    ) -> Result<SearchPage, ProviderError> {
        self.client.search_vector_store(store_id, search).await
    }

    async fn upload_file(&self, upload: FileUpload) -> Result<ProviderFile, ProviderError> {
        self.client.upload_file(upload).await
    }

    async fn list_files(&self, page: PageRequest) -> Result<Page<ProviderFile>, ProviderError> {
        self.client.list_files(page).await
    }

    async fn get_file(&self, file_id: &str) -> Result<ProviderFile, ProviderError> {
        self.client.get_file(file_id).await
    }

    async fn file_content(&self, file_id: &str) -> Result<FileContent, ProviderError> {
        self.client.file_content(file_id).await
    }

    async fn update_file(&self, file_id: &str, update: FileUpdate) -> Result<ProviderFile, ProviderError> {
        self.client.update_file(file_id, update).await
    }

    async fn delete_file(&self, file_id: &str) -> Result<Deleted, ProviderError> {
        self.client.delete_file(file_id).await
    }

    /// With a strategy that Yandex chokes on, attaches without it and says so.
    async fn attach_file(&self, store_id: &str, file: AttachFile) -> Result<Attached, ProviderError> {
        match self.attach_once(store_id, &file).await {
            Err(error) if file.chunking_strategy.is_some() && may_be_about_the_strategy(&error) => {
                let plain = AttachFile {
                    chunking_strategy: None,
                    ..file.clone()
                };
                let attached = self.attach_once(store_id, &plain).await?;
                // The first try may have taken effect after all, strategy included.
                let applied = attached.already_attached
                    && file
                        .chunking_strategy
                        .is_some_and(|asked| is(&attached.file, asked));
                Ok(Attached {
                    chunking_strategy_applied: applied,
                    ..attached
                })
            }
            result => result,
        }
    }

    async fn get_store_file(
        &self,
        store_id: &str,
        file_id: &str,
        attached_at: Option<DateTime<Utc>>,
    ) -> Result<VectorStoreFile, ProviderError> {
        self.client.get_store_file(store_id, file_id, attached_at).await
    }

    async fn list_store_files(
        &self,
        store_id: &str,
        page: PageRequest,
        filter: Option<StoreFileStatus>,
    ) -> Result<Page<VectorStoreFile>, ProviderError> {
        self.client.list_store_files(store_id, page, filter).await
    }

    async fn update_store_file_attributes(
        &self,
        store_id: &str,
        file_id: &str,
        attributes: Attributes,
    ) -> Result<VectorStoreFile, ProviderError> {
        self.client
            .update_store_file_attributes(store_id, file_id, attributes)
            .await
    }

    async fn store_file_content(
        &self,
        store_id: &str,
        file_id: &str,
    ) -> Result<ParsedContent, ProviderError> {
        self.client.store_file_content(store_id, file_id).await
    }

    async fn detach_file(&self, store_id: &str, file_id: &str) -> Result<Deleted, ProviderError> {
        self.client.detach_file(store_id, file_id).await
    }

    /// With a strategy that Yandex chokes on, creates the batch without it and says so.
    async fn create_file_batch(
        &self,
        store_id: &str,
        files: Vec<AttachFile>,
    ) -> Result<FileBatch, ProviderError> {
        let with_strategy = files.iter().any(|file| file.chunking_strategy.is_some());
        match self.batch_once(store_id, files.clone()).await {
            Err(error) if with_strategy && may_be_about_the_strategy(&error) => {
                let plain = files.into_iter().map(|file| AttachFile {
                    chunking_strategy: None,
                    ..file
                });
                let batch = self.batch_once(store_id, plain.collect()).await?;
                Ok(FileBatch {
                    chunking_strategy_applied: false,
                    ..batch
                })
            }
            result => result,
        }
    }

    async fn get_file_batch(&self, store_id: &str, batch_id: &str) -> Result<FileBatch, ProviderError> {
        self.client.get_file_batch(store_id, batch_id).await
    }

    async fn cancel_file_batch(&self, store_id: &str, batch_id: &str) -> Result<FileBatch, ProviderError> {
        self.client.cancel_file_batch(store_id, batch_id).await
    }

    async fn list_file_batch_files(
        &self,
        store_id: &str,
        batch_id: &str,
        page: PageRequest,
        filter: Option<StoreFileStatus>,
    ) -> Result<Page<VectorStoreFile>, ProviderError> {
        self.client
            .list_file_batch_files(store_id, batch_id, page, filter)
            .await
    }

    async fn health(&self) -> Result<Health, ProviderError> {
        self.client.health().await
    }
}
