//! Vector stores.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rag_domain::ChunkingStrategy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::open_enum::open_enum;
use super::page::Patch;
use super::wire::{WireObject, null_as_default, some_at_most, unix_seconds};

/// Up to 16 pairs, keys of at most 64 and values of at most 512 characters. The provider checks it, not this crate.
pub type Metadata = BTreeMap<String, String>;

open_enum! {
    /// Aggregate state of a store. OpenAI knows no `failed`; Yandex has been seen with it.
    VectorStoreStatus {
        Expired = "expired",
        InProgress = "in_progress",
        Completed = "completed",
        Failed = "failed",
    }
}

/// When a store expires: so many days (1..=365) after it was last active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiresAfter {
    /// `last_active_at` is the only anchor known.
    pub anchor: String,
    pub days: u32,
}

impl ExpiresAfter {
    pub fn days_after_last_use(days: u32) -> Self {
        Self {
            anchor: "last_active_at".to_owned(),
            days,
        }
    }
}

/// Files in a store or batch by state. `total` is the provider's own sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCounts {
    pub in_progress: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub total: u64,
}

/// A store to create. Everything is optional at OpenAI; a name and the caller's tag in `metadata` are what makes a store
/// recognisable after a crash, for no provider has idempotency keys.
#[derive(Debug, Clone, Default)]
pub struct NewVectorStore {
    pub name: Option<String>,
    pub description: Option<String>,
    pub expires_after: Option<ExpiresAfter>,
    /// Only applies to `file_ids`, and is left out of the request when there are none (the provider refuses it then).
    pub chunking_strategy: Option<ChunkingStrategy>,
    pub metadata: Metadata,
    /// At most `Capabilities::max_create_file_ids`; attaching later by batch is the usual way.
    pub file_ids: Vec<String>,
}

/// Changes to a store; what is `None` or `Keep` stays. `metadata` replaces all pairs at once.
#[derive(Debug, Clone, Default)]
pub struct VectorStoreUpdate {
    pub name: Option<String>,
    pub expires_after: Patch<ExpiresAfter>,
    /// As in [`VectorStore::metadata`]: what a server keeps there of its own goes back as it came.
    pub metadata: Option<serde_json::Map<String, Value>>,
}

/// A store as the provider describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct VectorStore {
    pub id: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// At most 16,000 characters.
    #[serde(default, deserialize_with = "some_at_most::<_, 16_000>")]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "unix_seconds")]
    pub created_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "unix_seconds")]
    pub last_active_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub expires_after: Option<ExpiresAfter>,
    #[serde(default, deserialize_with = "unix_seconds")]
    pub expires_at: Option<DateTime<Utc>>,
    pub status: VectorStoreStatus,
    #[serde(default, deserialize_with = "null_as_default")]
    pub file_counts: FileCounts,
    #[serde(default, deserialize_with = "null_as_default")]
    pub usage_bytes: u64,
    /// Values are strings at OpenAI; whatever else a server answers is kept.
    #[serde(default, deserialize_with = "null_as_default")]
    pub metadata: serde_json::Map<String, Value>,
    /// The provider's JSON, whole.
    #[serde(skip)]
    pub raw: Value,
}

impl WireObject for VectorStore {
    const OBJECTS: &'static [&'static str] = &["vector_store"];

    fn id(&self) -> &str {
        &self.id
    }

    fn keep_raw(&mut self, raw: Value) {
        self.raw = raw;
    }
}
