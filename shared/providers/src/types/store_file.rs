//! Files inside a vector store.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_domain::ChunkingStrategy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chunking::ReportedStrategy;
use super::open_enum::open_enum;
use super::wire::{WireObject, at_most, null_as_default, unix_seconds};

/// Up to 16 pairs; values are strings of at most 512 characters, numbers or booleans. The provider checks it.
pub type Attributes = serde_json::Map<String, Value>;

open_enum! {
    /// Where the indexing of one file stands.
    StoreFileStatus {
        InProgress = "in_progress",
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

impl StoreFileStatus {
    /// Nothing more will happen to the file by itself. An unknown word is not terminal: a deadline must end the wait.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// One file to attach, with what is its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttachFile {
    /// Id in the Files API.
    pub file_id: String,
    pub attributes: Attributes,
    /// `None`: the provider's default.
    pub chunking_strategy: Option<ChunkingStrategy>,
    /// How long the answer to a single attach may take; `None`: as long as that of any call. A server that answers when the file
    /// is indexed needs the longer, the larger the file is.
    pub time: Option<Duration>,
}

/// The answer to an attach.
#[derive(Debug, Clone)]
pub struct Attached {
    pub file: VectorStoreFile,
    /// `false`: the provider refused the chunking strategy and the file was attached without it.
    pub chunking_strategy_applied: bool,
    /// The file was attached to the store before this call, with whatever strategy it was attached with then.
    pub already_attached: bool,
}

/// Why a file failed. `code` is an open word: `server_error`, `unsupported_file`, `invalid_file`, and others appear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastError {
    /// At most 64 characters.
    #[serde(deserialize_with = "at_most::<_, 64>")]
    pub code: String,
    /// At most 2,000 characters.
    #[serde(deserialize_with = "at_most::<_, 2000>")]
    pub message: String,
}

/// A file in a store as the provider describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct VectorStoreFile {
    /// What retrieve, detach and so on take. Equal to the id of the file, except where
    /// `Capabilities::external_file_id_is_store_file` says otherwise.
    pub id: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub vector_store_id: String,
    pub status: StoreFileStatus,
    #[serde(default)]
    pub last_error: Option<LastError>,
    #[serde(default, deserialize_with = "unix_seconds")]
    pub created_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub usage_bytes: u64,
    /// The strategy in effect, if the provider tells.
    #[serde(default)]
    pub chunking_strategy: Option<ReportedStrategy>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub attributes: Attributes,
    /// When the provider wishes to be asked again.
    #[serde(skip)]
    pub poll_after: Option<Duration>,
    /// The provider's JSON, whole; `null` if the provider has not described the file yet (see `Provider::get_store_file`).
    #[serde(skip)]
    pub raw: Value,
}

impl VectorStoreFile {
    /// Id in the Files API, as far as the provider tells it apart from the id within the store.
    pub fn file_id(&self) -> &str {
        let own = self.raw.get("file_id").and_then(Value::as_str);
        own.unwrap_or(&self.id)
    }
}

impl WireObject for VectorStoreFile {
    const OBJECTS: &'static [&'static str] = &["vector_store.file"];

    fn id(&self) -> &str {
        &self.id
    }

    fn keep_raw(&mut self, raw: Value) {
        self.raw = raw;
    }
}
