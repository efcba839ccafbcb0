//! The contract every provider adapter fulfils, with its small print. Signatures and clauses only; no adapter lives here.
//!
//! Clauses that hold for every method:
//! - Errors are [`ProviderError`]s. `effect` is `None` for every read, and for a write that the provider refused; it is
//!   `Unknown` when a write was sent and no usable answer came back. No provider has idempotency keys: a write with unknown
//!   effect must be looked up before it is done again.
//! - Calls that may be repeated (reads, deletions, updates) are tried again in memory, briefly; other writes only if nothing
//!   was sent.
//! - Ids are opaque. An empty id, or one that could change the path, is an `InvalidRequest` and is not sent.
//! - An answer about another thing than was asked for is a `Protocol` error.
//! - Dropping the future aborts the call; a write may then have taken effect.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::error::ProviderError;
use crate::types::{
    AttachFile, Attached, Attributes, Capabilities, Deleted, FileBatch, FileContent, FileUpdate, FileUpload,
    Health, NewVectorStore, Page, PageRequest, ParsedContent, ProviderFile, SearchPage, SearchRequest,
    StoreFileStatus, VectorStore, VectorStoreFile, VectorStoreUpdate,
};

/// The code of the `InvalidRequest` that answers a batch with files that are attached to the store already, where the provider
/// refuses such a batch as a whole.
pub const ALREADY_ATTACHED: &str = "already_attached";

/// One connection to a provider. Cheap to share (`Arc<dyn Provider>`); holds a connection pool, so build it once.
#[async_trait]
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// The registry key, `openai` say.
    fn provider_type(&self) -> &str;

    /// Limits and abilities. Constant for the life of the connection.
    fn capabilities(&self) -> &Capabilities;

    /// Creates a store. Repeated: a second store; nothing at the provider prevents it.
    /// More than `max_create_file_ids` files: `InvalidRequest`, nothing sent.
    async fn create_vector_store(&self, store: NewVectorStore) -> Result<VectorStore, ProviderError>;

    /// One page of stores. May lag behind creations by seconds: absence in a list proves nothing about a young store.
    async fn list_vector_stores(&self, page: PageRequest) -> Result<Page<VectorStore>, ProviderError>;

    /// Absent: `NotFound`. An expired store is not absent; its status says so.
    async fn get_vector_store(&self, store_id: &str) -> Result<VectorStore, ProviderError>;

    /// Absent: `NotFound`. Repeated: same result. An empty update is sent all the same and answers the store.
    async fn update_vector_store(
        &self,
        store_id: &str,
        update: VectorStoreUpdate,
    ) -> Result<VectorStore, ProviderError>;

    /// Deletes the store; its files stay in the Files API. Absent or repeated: `Ok` with `existed: false`.
    async fn delete_vector_store(&self, store_id: &str) -> Result<Deleted, ProviderError>;

    /// Absent store: `NotFound`. No query: `InvalidRequest`, nothing sent. No match: an empty page.
    async fn search_vector_store(
        &self,
        store_id: &str,
        search: SearchRequest,
    ) -> Result<SearchPage, ProviderError>;

    /// Uploads a file, streaming from its source with a known length; memory does not grow with the file. There is no limit
    /// on the whole, only on a stall. Larger than `max_simple_upload_bytes`: in parts where the provider can
    /// (`uploads_api`); larger than `max_file_bytes`: `TooLarge`, nothing sent. An empty file is sent as any other; the
    /// provider decides. Repeated: a second file. A source that fails or changes its length: `InvalidRequest`.
    async fn upload_file(&self, upload: FileUpload) -> Result<ProviderFile, ProviderError>;

    /// One page of the files with the purpose this service uploads with. May lag behind uploads by seconds.
    async fn list_files(&self, page: PageRequest) -> Result<Page<ProviderFile>, ProviderError>;

    /// Absent: `NotFound`.
    async fn get_file(&self, file_id: &str) -> Result<ProviderFile, ProviderError>;

    /// The bytes of a file, streamed. Absent: `NotFound`. Present but not handed out (OpenAI does so for the purpose this
    /// service uses; Yandex answers 404 with an empty body): `ContentUnavailable`.
    async fn file_content(&self, file_id: &str) -> Result<FileContent, ProviderError>;

    /// `Unsupported` unless `Capabilities::update_file`.
    async fn update_file(&self, file_id: &str, update: FileUpdate) -> Result<ProviderFile, ProviderError>;

    /// Deletes a file. Detach it first: a deleted file stays counted in the stores that it was attached to. Absent or repeated: `Ok`
    /// with `existed: false`.
    async fn delete_file(&self, file_id: &str) -> Result<Deleted, ProviderError>;

    /// Attaches one file. Indexing goes on after the answer. Repeated: the provider may answer the existing attachment, or
    /// refuse; where the refusal is recognisable it becomes `Ok` with `already_attached: true`. Absent store or file:
    /// `NotFound` (right after an upload it may merely not be visible yet).
    async fn attach_file(&self, store_id: &str, file: AttachFile) -> Result<Attached, ProviderError>;

    /// A file in a store. `file_id` is [`VectorStoreFile::id`]. Absent: `NotFound`; but if `attached_at` is known and less
    /// than `Capabilities::settle_grace` ago, "not found" means "not visible yet" and answers a file that is `InProgress`,
    /// with `raw` null.
    async fn get_store_file(
        &self,
        store_id: &str,
        file_id: &str,
        attached_at: Option<DateTime<Utc>>,
    ) -> Result<VectorStoreFile, ProviderError>;

    /// One page of a store's files, in one state or all. May lag. Absent store: `NotFound`.
    async fn list_store_files(
        &self,
        store_id: &str,
        page: PageRequest,
        filter: Option<StoreFileStatus>,
    ) -> Result<Page<VectorStoreFile>, ProviderError>;

    /// Replaces all attributes. Absent: `NotFound`. Repeated: same result.
    async fn update_store_file_attributes(
        &self,
        store_id: &str,
        file_id: &str,
        attributes: Attributes,
    ) -> Result<VectorStoreFile, ProviderError>;

    /// The text parsed out of an attached file, whole and in memory; larger than 64 MiB: `TooLarge`. Absent: `NotFound`.
    async fn store_file_content(&self, store_id: &str, file_id: &str)
    -> Result<ParsedContent, ProviderError>;

    /// Takes a file out of a store; the file itself stays. Absent or repeated: `Ok` with `existed: false`.
    async fn detach_file(&self, store_id: &str, file_id: &str) -> Result<Deleted, ProviderError>;

    /// Attaches many files at once, each with its own attributes and strategy where `batch_per_file_strategy` says so;
    /// where not, files that differ are `Unsupported` and nothing is sent. None, or more than `max_batch_files`:
    /// `InvalidRequest`, nothing sent. The same file twice: `InvalidRequest`, nothing sent. Repeated: a second batch over
    /// the same attachments, harmless; or, where the provider refuses a batch with attached files in it, `InvalidRequest` with
    /// the code [`ALREADY_ATTACHED`] and nothing changed: attach the missing files.
    async fn create_file_batch(
        &self,
        store_id: &str,
        files: Vec<AttachFile>,
    ) -> Result<FileBatch, ProviderError>;

    /// Absent: `NotFound`.
    async fn get_file_batch(&self, store_id: &str, batch_id: &str) -> Result<FileBatch, ProviderError>;

    /// `Unsupported` unless `Capabilities::cancel_batch`. Files already indexed stay attached. Absent: `NotFound`. A batch
    /// that has ended: whatever the provider answers, often `InvalidRequest`.
    async fn cancel_file_batch(&self, store_id: &str, batch_id: &str) -> Result<FileBatch, ProviderError>;

    /// One page of a batch's files, in one state or all.
    async fn list_file_batch_files(
        &self,
        store_id: &str,
        batch_id: &str,
        page: PageRequest,
        filter: Option<StoreFileStatus>,
    ) -> Result<Page<VectorStoreFile>, ProviderError>;

    /// One light call that needs valid credentials.
    async fn health(&self) -> Result<Health, ProviderError>;
}
