//! File batches: many attachments in one call.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::open_enum::open_enum;
use super::vector_store::FileCounts;
use super::wire::{WireObject, null_as_default, unix_seconds};

open_enum! {
    /// The status of a batch. A failed file does not fail its batch; the files have their own statuses.
    FileBatchStatus {
        InProgress = "in_progress",
        Completed = "completed",
        Cancelled = "cancelled",
        Failed = "failed",
    }
}

impl FileBatchStatus {
    /// Nothing more will happen to the batch by itself. An unknown word is not terminal: a deadline must end the wait.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A batch as the provider describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct FileBatch {
    pub id: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub vector_store_id: String,
    pub status: FileBatchStatus,
    #[serde(default, deserialize_with = "null_as_default")]
    pub file_counts: FileCounts,
    #[serde(default, deserialize_with = "unix_seconds")]
    pub created_at: Option<DateTime<Utc>>,
    /// `false` (only ever in the answer to a creation): the provider refused the files' chunking strategies, and the batch
    /// was created without them.
    #[serde(skip, default = "applied")]
    pub chunking_strategy_applied: bool,
    /// When the provider wishes to be asked again.
    #[serde(skip)]
    pub poll_after: Option<Duration>,
    /// The provider's JSON, whole.
    #[serde(skip)]
    pub raw: Value,
}

fn applied() -> bool {
    true
}

impl WireObject for FileBatch {
    // OpenAI's document says `files_batch`, its servers and most others say `file_batch`.
    const OBJECTS: &'static [&'static str] = &["vector_store.file_batch", "vector_store.files_batch"];

    fn id(&self) -> &str {
        &self.id
    }

    fn keep_raw(&mut self, raw: Value) {
        self.raw = raw;
    }
}
