//! What a provider can do, as data: the pipeline asks these and never the provider's name.

use std::time::Duration;

/// Limits and abilities of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a provider, not a state machine"
)]
pub struct Capabilities {
    /// Files in one `create_file_batch`.
    pub max_batch_files: usize,
    /// `file_ids` in one `create_vector_store`.
    pub max_create_file_ids: usize,
    /// The largest file `upload_file` takes, by whatever path.
    pub max_file_bytes: u64,
    /// The largest file that goes up in one request; above it, `uploads_api` must be true.
    pub max_simple_upload_bytes: u64,
    /// Large files go up in parts. `upload_file` does so by itself above `max_simple_upload_bytes`.
    pub uploads_api: bool,
    /// The largest part of an upload in parts.
    pub max_upload_part_bytes: u64,
    /// Each file of a batch may have its own strategy and attributes. If not, a batch takes files that all carry the same,
    /// and files that differ are attached one by one.
    pub batch_per_file_strategy: bool,
    /// `cancel_file_batch` works; `Unsupported` otherwise.
    pub cancel_batch: bool,
    /// `update_file` works; `Unsupported` otherwise.
    pub update_file: bool,
    /// Files being indexed at once, over all stores of the connection.
    pub max_concurrent_indexing: Option<u32>,
    /// Attach writes (files and batches together) a minute and store.
    pub attach_writes_per_minute: Option<u32>,
    /// What the upload row must remember is `VectorStoreFile::id`, which is not the Files API id.
    pub external_file_id_is_store_file: bool,
    /// Items a page of stores, store files and batch files.
    pub max_page_items: u32,
    /// Items a page of files.
    pub max_file_page_items: u32,
    /// How long after a creation or attach a "not found" is to be taken for "not visible yet".
    pub settle_grace: Duration,
}

/// The answer to a light authenticated call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// From sending to the whole answer, retries included.
    pub latency: Duration,
}
