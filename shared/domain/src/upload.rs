//! Where the copy of a local file at a provider stands.

use crate::status::status;

status! {
    /// `rag_provider_file_uploads.status`.
    UploadStatus ("upload status") {
        /// Wanted, not there yet (or not known to be there).
        Pending = "pending",
        /// There, with the content of `content_sha256`.
        Uploaded = "uploaded",
        /// The last try failed; `last_error` says why.
        Failed = "failed",
        /// Removed at the provider; the row stays for the record.
        Deleted = "deleted",
    }
}

impl UploadStatus {
    /// The statuses from which a move to `self` is legal.
    pub const fn predecessors(self) -> &'static [Self] {
        match self {
            // Changed content, a forced upload, or another try.
            Self::Pending => &[Self::Pending, Self::Uploaded, Self::Failed, Self::Deleted],
            Self::Uploaded | Self::Failed => &[Self::Pending],
            Self::Deleted => &[Self::Pending, Self::Uploaded, Self::Failed],
        }
    }
}
