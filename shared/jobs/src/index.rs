//! Jobs that work on one index, and the one that has all indexes of a domain synced.

use rag_domain::{DomainId, IndexId};
use serde::{Deserialize, Serialize};

use crate::spec::{Attempts, JobSpec, of_an_index, one_at_a_time};

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

impl JobSpec for IndexBuild {
    const NAME: &'static str = "index_build";
    const ATTEMPTS: Attempts = Attempts::Configured;

    /// One build per index is active at a time.
    fn unique_key(&self) -> String {
        Self::unique_key_of(self.index_id)
    }

    of_an_index!();
}

impl IndexBuild {
    /// The unique key, for callers that have no payload.
    pub fn unique_key_of(index_id: IndexId) -> String {
        format!("{}{index_id}", Self::unique_key_prefix())
    }

    /// What comes before the index's id in a unique key.
    pub fn unique_key_prefix() -> String {
        format!("{}:", Self::NAME)
    }
}

/// Deletes what an index has at its provider, and then the index, which is hidden already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDelete {
    pub index_id: IndexId,
    pub domain_id: DomainId,
}

impl JobSpec for IndexDelete {
    const NAME: &'static str = "index_delete";
    const ATTEMPTS: Attempts = Attempts::Unlimited;

    one_at_a_time!();
    of_an_index!();
}

/// Deletes an index's vector store, and nothing else: the index, its files and their copies stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStoreDelete {
    pub index_id: IndexId,
    pub domain_id: DomainId,
    /// The store to delete: one that a later build makes is not. `None`: the index had none, but its provider may have one
    /// whose creation was never confirmed.
    #[serde(default)]
    pub external_id: Option<String>,
}

impl JobSpec for IndexStoreDelete {
    const NAME: &'static str = "index_store_delete";
    const ATTEMPTS: Attempts = Attempts::Unlimited;

    one_at_a_time!();
    of_an_index!();
}

/// Tells the provider to stop indexing what a cancelled build has handed it, before the index is built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexCancel {
    pub index_id: IndexId,
    pub domain_id: DomainId,
}

impl JobSpec for IndexCancel {
    const NAME: &'static str = "index_cancel";
    const ATTEMPTS: Attempts = Attempts::Few;

    one_at_a_time!();
    of_an_index!();
}

/// Polls an index's store once, and copies what the provider says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSync {
    pub index_id: IndexId,
    pub domain_id: DomainId,
    /// A store that is gone is only reported: the caller decides over many of them at once.
    #[serde(default)]
    pub keep_gone: bool,
}

impl JobSpec for IndexSync {
    const NAME: &'static str = "index_sync";
    /// Few, so that a failing provider does not keep the builds of the index waiting.
    const ATTEMPTS: Attempts = Attempts::Few;

    one_at_a_time!();
    of_an_index!();
}

/// Syncs all indexes of a domain that have a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSync {
    pub domain_id: DomainId,
    /// Only those at this provider.
    #[serde(default)]
    pub provider_type: Option<String>,
    /// Sync those too that were synced a moment ago, and detach however many stores are gone.
    #[serde(default)]
    pub force: bool,
}

impl JobSpec for DomainSync {
    const NAME: &'static str = "domain_sync";
    const ATTEMPTS: Attempts = Attempts::Usual;

    /// One per domain and choice of providers is active at a time.
    fn unique_key(&self) -> String {
        let provider_type = self.provider_type.as_deref().unwrap_or("*");
        format!("{}:{provider_type}:{}", Self::NAME, self.domain_id)
    }

    fn domain_id(&self) -> Option<&DomainId> {
        Some(&self.domain_id)
    }
}
