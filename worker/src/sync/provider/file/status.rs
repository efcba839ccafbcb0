//! What a line of `file_results` says of a file, and what it is named by.

use rag_domain::DomainId;

use crate::observe::store_file::SeenFile;

/// `status` of a file that is about to be downloaded.
pub(super) const PENDING: &str = "pending";
/// … that a sync would take over.
pub(super) const WOULD_BE_CREATED: &str = "would_be_created";
/// … of which the provider does not hand out the bytes.
pub(super) const UNAVAILABLE: &str = "content_unavailable";
/// … that is in a store, but is not in the Files API any more.
pub(super) const MISSING: &str = "missing";
/// … that we hold by its row, but of which no bytes lie on disk.
pub(super) const LOCAL_MISSING: &str = "local_missing";
/// … that was not compared, because it was found equal before.
pub(super) const MATCHED_BEFORE: &str = "matched_before";
/// … whose bytes here and there are the same.
pub(super) const MATCHES: &str = "matches";
/// … whose bytes are not.
pub(super) const DIFFERS: &str = "differs";
/// … of which something else is wrong.
pub(super) const FAILED: &str = "failed";

/// A file of the provider may serve several domains, and is another file of ours in each.
pub(super) fn subject(file: &SeenFile, domain: &DomainId) -> String {
    format!("{}@{domain}", file.file_id)
}
