//! One file per job kind: from the queue's claim to a pipeline and back to an outcome.

pub(crate) mod domain_sync;
pub(crate) mod file_upload;
pub(crate) mod index_build;
pub(crate) mod index_sync;
pub(crate) mod provider_sync;
