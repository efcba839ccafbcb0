//! Jobs that work on one file.

use rag_domain::{DomainId, FileId, IndexId};
use serde::{Deserialize, Serialize};

use crate::spec::{Attempts, JobSpec, of_an_index};

/// Brings a file's present contents to a provider, whether an index needs it there or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUpload {
    pub file_id: FileId,
    pub domain_id: DomainId,
    pub provider_type: String,
}

impl JobSpec for FileUpload {
    const NAME: &'static str = "file_upload";
    const ATTEMPTS: Attempts = Attempts::Configured;

    /// One upload per file and provider is active at a time.
    fn unique_key(&self) -> String {
        Self::unique_key_of(&self.provider_type, &self.file_id.to_string())
    }

    fn domain_id(&self) -> Option<&DomainId> {
        Some(&self.domain_id)
    }
}

impl FileUpload {
    /// The unique key, for callers that have no payload.
    pub fn unique_key_of(provider_type: &str, file_id: &str) -> String {
        format!("{}:{provider_type}:{file_id}", Self::NAME)
    }
}

/// Deletes the copies of a file that is hidden already, then its contents, then the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDelete {
    pub file_id: FileId,
    pub domain_id: DomainId,
}

impl JobSpec for FileDelete {
    const NAME: &'static str = "file_delete";
    const ATTEMPTS: Attempts = Attempts::Unlimited;

    /// One per file is active at a time.
    fn unique_key(&self) -> String {
        format!("{}:{}", Self::NAME, self.file_id)
    }

    fn domain_id(&self) -> Option<&DomainId> {
        Some(&self.domain_id)
    }
}

/// Takes a deleted file out of one index's store, when its turn among the jobs of that index has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDetach {
    pub index_id: IndexId,
    pub file_id: FileId,
    pub domain_id: DomainId,
}

impl JobSpec for FileDetach {
    const NAME: &'static str = "file_detach";
    const ATTEMPTS: Attempts = Attempts::Unlimited;

    /// One per index and file is active at a time.
    fn unique_key(&self) -> String {
        format!("{}:{}:{}", Self::NAME, self.index_id, self.file_id)
    }

    of_an_index!();
}
