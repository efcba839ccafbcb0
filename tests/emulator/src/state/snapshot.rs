//! The whole state as data, for assertions: what `GET /_emulator/state` answers.

use super::State;
use crate::{chunking::ChunkSizes, ids::Id};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Files and stores, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    pub files: Vec<FileSnapshot>,
    pub stores: Vec<StoreSnapshot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileSnapshot {
    pub id: Id,
    pub filename: Arc<str>,
    pub purpose: Arc<str>,
    pub bytes: u64,
    /// Lowercase hex.
    pub sha256: Arc<str>,
    /// Unix seconds.
    pub created_at: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreSnapshot {
    pub id: Id,
    pub name: Option<String>,
    pub metadata: Map<String, Value>,
    pub created_at: i64,
    pub usage_bytes: u64,
    pub files: Vec<StoreFileSnapshot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreFileSnapshot {
    pub file_id: Id,
    pub filename: Arc<str>,
    pub status: String,
    pub last_error_code: Option<Arc<str>>,
    pub chunk_sizes: ChunkSizes,
    pub attributes: Map<String, Value>,
    /// Zero until the file is completed.
    pub chunks: usize,
    /// Tokens of the text, overlaps counted once; zero until the file is completed.
    pub tokens: u64,
    pub usage_bytes: u64,
}

impl State {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let files = self.files.iter().map(|(id, file)| FileSnapshot {
            id: id.clone(),
            filename: file.filename.clone(),
            purpose: file.purpose.clone(),
            bytes: file.bytes,
            sha256: file.sha256.clone(),
            created_at: file.created_at,
        });
        let stores = self.stores.iter().map(|(id, store)| StoreSnapshot {
            id: id.clone(),
            name: store.name.clone(),
            metadata: store.metadata.clone(),
            created_at: store.created_at,
            usage_bytes: store.usage_bytes,
            files: store
                .files
                .iter()
                .map(|(file_id, file)| file.snapshot(file_id))
                .collect(),
        });
        Snapshot {
            files: files.collect(),
            stores: stores.collect(),
        }
    }
}

impl super::StoreFile {
    fn snapshot(&self, file_id: &Id) -> StoreFileSnapshot {
        StoreFileSnapshot {
            file_id: file_id.clone(),
            filename: self.filename.clone(),
            status: self.status.as_str().to_owned(),
            last_error_code: self.last_error.as_ref().map(|error| error.code.clone()),
            chunk_sizes: self.sizes,
            attributes: self.attributes.clone(),
            chunks: self.text.as_ref().map_or(0, |text| text.chunks.len()),
            tokens: self.text.as_ref().map_or(0, |text| text.tokens),
            usage_bytes: self.usage_bytes(),
        }
    }
}
