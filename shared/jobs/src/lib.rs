//! The jobs that the API enqueues and the worker runs: their payloads, kinds and unique keys.
//!
//! Payloads live in job rows across upgrades: fields are added with a default, never renamed or removed.

use apalis_mariadb::JobKind;
use rag_domain::{DomainId, FileId, IndexId};
use serde::{Deserialize, Serialize};

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
    /// One build per index is active at a time.
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::KIND, self.index_id)
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
