//! The provider's data: files, stores with their files, batches, uploads, and the ledger beside them under one lock.
//! Counts are kept as things change, never recounted. Nothing here waits, reads bodies or knows HTTP.

mod attachments;
mod batches;
mod files;
mod snapshot;
mod stores;
mod uploads;

pub(crate) use attachments::{AttachRequest, IndexJob, Outcome};
pub(crate) use files::NewFile;
pub use snapshot::{FileSnapshot, Snapshot, StoreFileSnapshot, StoreSnapshot};
pub(crate) use stores::StoreChange;
pub(crate) use uploads::Upload;

use crate::{
    body::Body, chunking::ChunkSizes, chunking::ChunkedText, collection::Collection, deviations::Deviations,
    ids::Id, ledger::Ledger,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};
use tokio_util::sync::DropGuard;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub files: Collection<File>,
    pub stores: Collection<Store>,
    pub batches: HashMap<Id, Batch>,
    pub uploads: HashMap<Id, Upload>,
    pub ledger: Ledger,
    /// (unix seconds, file id) of files that end by themselves.
    expiring: BTreeSet<(i64, Id)>,
    generation: u64,
    deviations: Deviations,
}

impl State {
    pub(crate) fn new(deviations: Deviations) -> Self {
        Self {
            deviations,
            ..Self::default()
        }
    }

    pub(crate) fn accepts_unknown_files(&self) -> bool {
        self.deviations.unchecked_batches
    }
}

#[derive(Debug, Clone)]
pub(crate) struct File {
    pub id: Id,
    pub filename: Arc<str>,
    pub purpose: Arc<str>,
    pub bytes: u64,
    pub sha256: Arc<str>,
    /// Unix seconds.
    pub created_at: i64,
    pub created: Instant,
    pub expires_at: Option<i64>,
    pub body: Arc<Body>,
    attached_to: BTreeSet<Id>,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub id: Id,
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Map<String, Value>,
    pub expires_after_days: Option<u32>,
    /// Whether `expires_after` means anything.
    expires: bool,
    pub created_at: i64,
    pub created: Instant,
    pub last_active_at: i64,
    pub usage_bytes: u64,
    pub counts: Counts,
    pub files: Collection<StoreFile>,
    batches: Vec<Id>,
}

/// A file's place in a store.
#[derive(Debug)]
pub(crate) struct StoreFile {
    pub filename: Arc<str>,
    pub body: Arc<Body>,
    pub created_at: i64,
    pub created: Instant,
    pub status: FileStatus,
    /// Whether listings and counts know of it yet.
    pub visible: bool,
    pub last_error: Option<FileError>,
    pub sizes: ChunkSizes,
    pub attributes: Map<String, Value>,
    pub text: Option<Arc<ChunkedText>>,
    /// Batches that count this file.
    batches: Vec<Id>,
    /// Tells this attachment from an earlier one of the same file.
    generation: u64,
    /// Dropped with the attachment, which ends its indexing.
    indexing: DropGuard,
}

impl StoreFile {
    pub(crate) fn usage_bytes(&self) -> u64 {
        self.text.as_ref().map_or(0, |text| text.usage_bytes())
    }
}

#[derive(Debug)]
pub(crate) struct Batch {
    pub id: Id,
    pub store_id: Id,
    pub created_at: i64,
    pub created: Instant,
    pub counts: Counts,
    pub cancelled: bool,
    pub files: Collection<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileStatus {
    InProgress,
    Completed,
    Failed,
    Cancelled,
}

impl FileStatus {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::InProgress, Self::Completed, Self::Failed, Self::Cancelled];
        all.into_iter().find(|status| status.as_str() == text)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// `last_error` of a store file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FileError {
    pub code: Arc<str>,
    pub message: String,
}

/// `file_counts`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Counts {
    pub in_progress: usize,
    pub completed: usize,
    pub failed: usize,
    pub cancelled: usize,
    pub total: usize,
}

impl Counts {
    fn slot(&mut self, status: FileStatus) -> &mut usize {
        match status {
            FileStatus::InProgress => &mut self.in_progress,
            FileStatus::Completed => &mut self.completed,
            FileStatus::Failed => &mut self.failed,
            FileStatus::Cancelled => &mut self.cancelled,
        }
    }

    fn add(&mut self, status: FileStatus) {
        *self.slot(status) += 1;
        self.total += 1;
    }

    fn remove(&mut self, status: FileStatus) {
        *self.slot(status) -= 1;
        self.total -= 1;
    }

    fn shift(&mut self, from: FileStatus, to: FileStatus) {
        *self.slot(from) -= 1;
        *self.slot(to) += 1;
    }
}

pub(crate) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}
