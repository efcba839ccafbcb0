//! What differs between providers that speak the dialect, as data.

use std::time::Duration;

use crate::error::ErrorKind;
use crate::types::{Capabilities, FileUpload};

/// The light call that proves credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthProbe {
    /// `GET /models`.
    Models,
    /// `GET /vector_stores?limit=1`.
    VectorStores,
}

#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) provider_type: &'static str,
    pub(crate) capabilities: Capabilities,
    /// Of uploads, and of the files that are listed.
    pub(crate) purpose: &'static str,
    /// The MIME type to send a file with.
    pub(crate) content_type: fn(&FileUpload) -> String,
    pub(crate) health: HealthProbe,
    /// What a download that answers 404 without a body means.
    pub(crate) content_404_without_body: ErrorKind,
}

/// The caller's type, else what the file name suggests, else bytes.
pub(crate) fn content_type_by_name(upload: &FileUpload) -> String {
    match &upload.content_type {
        Some(content_type) => content_type.clone(),
        None => mime_guess::from_path(&upload.file_name)
            .first_or_octet_stream()
            .to_string(),
    }
}

const MIB: u64 = 1024 * 1024;

/// The dialect as its author documents it.
pub(crate) fn documented_capabilities() -> Capabilities {
    Capabilities {
        max_batch_files: 2000,
        max_create_file_ids: 500,
        max_file_bytes: 8 * 1024 * MIB,
        max_simple_upload_bytes: 512 * MIB,
        uploads_api: true,
        max_upload_part_bytes: 64 * MIB,
        batch_per_file_strategy: true,
        cancel_batch: true,
        update_file: false,
        max_concurrent_indexing: None,
        attach_writes_per_minute: Some(300),
        external_file_id_is_store_file: false,
        max_page_items: 100,
        max_file_page_items: 10_000,
        settle_grace: Duration::from_secs(30),
    }
}
