//! The jobs that the API enqueues and the worker runs: their payloads, kinds and unique keys.
//!
//! Payloads live in job rows across upgrades: fields are added with a default, never renamed or removed.

mod probe;

use apalis_mariadb::{JobKind, NewJob, QueueError};
use rag_domain::{DomainId, FileId, IndexId};
use serde::{Deserialize, Serialize};

pub use probe::{Check, CheckResult, ProbeReport, ProbeVerdict, ProviderProbe};

/// The concurrency key of everything that works on an index: such jobs take turns, whatever their kinds.
pub fn index_concurrency_key(index_id: IndexId) -> String {
    format!("index:{index_id}")
}

/// Builds an index at its provider: store, uploads, attachments, polling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBuild {
    pub index_id: IndexId,
    pub domain_id: DomainId,
    /// Give up the present store and make a new one.
    #[serde(default)]
    pub recreate: bool,
    /// Upload every file again, whatever the provider has.
    #[serde(default)]
    pub force_upload: bool,
}

impl JobKind for IndexBuild {
    const KIND: &'static str = "index_build";
}

impl IndexBuild {
    /// As [`unique_key`](Self::unique_key), for who has no payload.
    pub fn unique_key_of(index_id: IndexId) -> String {
        format!("{}{index_id}", Self::unique_key_prefix())
    }

    /// What comes before the index's id in a unique key.
    pub fn unique_key_prefix() -> String {
        format!("{}:", Self::KIND)
    }

    /// One build per index is active at a time.
    pub fn unique_key(&self) -> String {
        Self::unique_key_of(self.index_id)
    }
}

/// Brings a file's present contents to a provider, whether an index needs it there or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUpload {
    pub file_id: FileId,
    pub domain_id: DomainId,
    pub provider_type: String,
}

impl JobKind for FileUpload {
    const KIND: &'static str = "file_upload";
}

impl FileUpload {
    /// As [`unique_key`](Self::unique_key), for who has no payload.
    pub fn unique_key_of(provider_type: &str, file_id: &str) -> String {
        format!("{}:{provider_type}:{file_id}", Self::KIND)
    }

    /// One upload per file and provider is active at a time.
    pub fn unique_key(&self) -> String {
        Self::unique_key_of(&self.provider_type, &self.file_id.to_string())
    }
}

/// Deletes what an index has at its provider, and then the index, which is hidden already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDelete {
    pub index_id: IndexId,
    pub domain_id: DomainId,
}

impl JobKind for IndexDelete {
    const KIND: &'static str = "index_delete";
}

impl IndexDelete {
    /// One per index is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::KIND, self.index_id)
    }

    /// Ready to be enqueued: it takes turns with whatever else works on the index, and does not give up.
    pub fn to_job(&self) -> Result<NewJob, QueueError> {
        Ok(NewJob::of(self)?
            .unique_key(self.unique_key())
            .concurrency_key(index_concurrency_key(self.index_id))
            .tenant(self.domain_id.to_string())
            .max_attempts(DELETION_MAX_ATTEMPTS))
    }
}

/// Deletes an index's vector store, and nothing else: the index, its files and their copies stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStoreDelete {
    pub index_id: IndexId,
    pub domain_id: DomainId,
    /// The store that is meant: one that a later build makes is not. `None`: the index had none, but its provider may have
    /// one that was never heard of.
    #[serde(default)]
    pub external_id: Option<String>,
}

impl JobKind for IndexStoreDelete {
    const KIND: &'static str = "index_store_delete";
}

impl IndexStoreDelete {
    /// One per index is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::KIND, self.index_id)
    }

    /// Ready to be enqueued: it takes turns with whatever else works on the index, and does not give up.
    pub fn to_job(&self) -> Result<NewJob, QueueError> {
        Ok(NewJob::of(self)?
            .unique_key(self.unique_key())
            .concurrency_key(index_concurrency_key(self.index_id))
            .tenant(self.domain_id.to_string())
            .max_attempts(DELETION_MAX_ATTEMPTS))
    }
}

/// Tells the provider to stop indexing what a cancelled build has handed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexCancel {
    pub index_id: IndexId,
    pub domain_id: DomainId,
}

impl JobKind for IndexCancel {
    const KIND: &'static str = "index_cancel";
}

impl IndexCancel {
    /// One per index is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::KIND, self.index_id)
    }

    /// Ready to be enqueued: before the index is built again.
    pub fn to_job(&self) -> Result<NewJob, QueueError> {
        Ok(NewJob::of(self)?
            .unique_key(self.unique_key())
            .concurrency_key(index_concurrency_key(self.index_id))
            .tenant(self.domain_id.to_string())
            .max_attempts(3))
    }
}

/// Deletes the copies of a file that is hidden already, then its contents, then the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDelete {
    pub file_id: FileId,
    pub domain_id: DomainId,
}

impl JobKind for FileDelete {
    const KIND: &'static str = "file_delete";
}

impl FileDelete {
    /// One per file is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::KIND, self.file_id)
    }

    /// Ready to be enqueued; it does not give up.
    pub fn to_job(&self) -> Result<NewJob, QueueError> {
        Ok(NewJob::of(self)?
            .unique_key(self.unique_key())
            .tenant(self.domain_id.to_string())
            .max_attempts(DELETION_MAX_ATTEMPTS))
    }
}

/// Takes a deleted file out of one index's store, when its turn among the jobs of that index has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDetach {
    pub index_id: IndexId,
    pub file_id: FileId,
    pub domain_id: DomainId,
}

impl JobKind for FileDetach {
    const KIND: &'static str = "file_detach";
}

impl FileDetach {
    /// One per index and file is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}:{}", Self::KIND, self.index_id, self.file_id)
    }

    /// Ready to be enqueued: it takes turns with whatever else works on the index, and does not give up.
    pub fn to_job(&self) -> Result<NewJob, QueueError> {
        Ok(NewJob::of(self)?
            .unique_key(self.unique_key())
            .concurrency_key(index_concurrency_key(self.index_id))
            .tenant(self.domain_id.to_string())
            .max_attempts(DELETION_MAX_ATTEMPTS))
    }
}

/// What becomes of what we made at a provider and no row of ours speaks of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanMode {
    #[default]
    Report,
    Delete,
}

/// Looks for what we made at a provider and no row of ours speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanReconcile {
    pub provider_type: String,
    #[serde(default)]
    pub mode: OrphanMode,
    /// Ids of unproven files at the provider, of which an admin says that they are ours: they are deleted.
    #[serde(default)]
    pub confirmed_files: Vec<String>,
}

impl JobKind for OrphanReconcile {
    const KIND: &'static str = "orphan_reconcile";
}

impl OrphanReconcile {
    /// One per provider and mode is active at a time.
    pub fn unique_key(&self) -> String {
        let mode = match self.mode {
            OrphanMode::Report => "report",
            OrphanMode::Delete => "delete",
        };
        format!("{}:{}:{mode}", Self::KIND, self.provider_type)
    }

    /// Ready to be enqueued. One that confirms files is a job of its own, whatever else is active.
    pub fn to_job(&self) -> Result<NewJob, QueueError> {
        let job = NewJob::of(self)?;
        Ok(if self.confirmed_files.is_empty() {
            job.unique_key(self.unique_key())
        } else {
            job
        })
    }
}

/// A deletion is tried until it succeeds: a provider that fails for a week must not leave what it holds for ever. Its failures
/// are counted all the same, and the backoff between them has a limit.
pub const DELETION_MAX_ATTEMPTS: u32 = 1_000_000;

/// Takes one look at an index's store, and copies what the provider says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSync {
    pub index_id: IndexId,
    pub domain_id: DomainId,
    /// A store that is gone is only reported: whoever asked decides over many of them at once.
    #[serde(default)]
    pub keep_gone: bool,
}

impl JobKind for IndexSync {
    const KIND: &'static str = "index_sync";
}

impl IndexSync {
    /// One look per index is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::KIND, self.index_id)
    }
}

/// Looks at all indexes of a domain that have a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSync {
    pub domain_id: DomainId,
    /// Only those at this provider.
    #[serde(default)]
    pub provider_type: Option<String>,
    /// Look at those too that were looked at a moment ago, and detach however many stores are gone.
    #[serde(default)]
    pub force: bool,
}

impl JobKind for DomainSync {
    const KIND: &'static str = "domain_sync";
}

impl DomainSync {
    /// One per domain and choice of providers is active at a time.
    pub fn unique_key(&self) -> String {
        let provider_type = self.provider_type.as_deref().unwrap_or("*");
        format!("{}:{provider_type}:{}", Self::KIND, self.domain_id)
    }
}

/// Brings indexes and files into agreement with what a provider has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSync {
    pub provider_type: String,
    /// Report what differs; change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Unlink files that their stores no longer have.
    #[serde(default)]
    pub strict: bool,
    /// Detach however much is gone.
    #[serde(default)]
    pub force: bool,
}

impl JobKind for ProviderSync {
    const KIND: &'static str = "provider_sync";
}

impl ProviderSync {
    /// One per provider is active at a time, and one report beside it.
    pub fn unique_key(&self) -> String {
        let report = if self.dry_run { ":report" } else { "" };
        format!("{}:{}{report}", Self::KIND, self.provider_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_older_versions_are_read() {
        let index_id = IndexId::new();
        let old = serde_json::json!({"index_id": index_id, "domain_id": "0"});
        let job: IndexBuild = serde_json::from_value(old).unwrap();
        assert_eq!(
            (job.index_id, job.recreate, job.force_upload),
            (index_id, false, false)
        );
    }
}
