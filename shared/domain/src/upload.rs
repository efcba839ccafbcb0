//! The status of a local file's copy at a provider, and its legal moves.

use crate::status::status;
use crate::transition::transitions;

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

transitions! {
    UploadStatus {
        /// The content changed, or an upload was asked for.
        REQUEST: Pending | Uploaded | Failed | Deleted => Pending,
        /// The file is wanted at the provider again.
        REVIVE: Deleted => Pending,
        /// A build retries what failed.
        RETRY: Failed => Pending,
        /// A build with `force` uploads everything again.
        FORCE: Uploaded | Failed => Pending,
        /// The provider no longer has the copy.
        LOSE: Uploaded => Pending,
        /// The provider has the content.
        COMPLETE: Pending => Uploaded,
        /// The upload failed for good, or was given up.
        FAIL: Pending => Failed,
        /// The copy is to be deleted.
        DELETE: Pending | Uploaded | Failed => Deleted,
    }
}
