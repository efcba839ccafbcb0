//! Syncs: a run's phases, what it counts, what it finds, and the states of its items (R-6.2).

use serde::{Deserialize, Serialize};

use crate::status::status;
use crate::transition::transitions;

/// The numbers of a sync's result. In a report they are what a sync would have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncCounts {
    pub indexes_created: u64,
    pub indexes_updated: u64,
    pub indexes_detached: u64,
    pub files_created: u64,
    /// Files of stores that we hold already.
    pub files_kept: u64,
    /// … of those, files whose bytes were compared with the provider's.
    pub files_compared: u64,
    /// … of those, files that were not downloaded, because they were found equal before.
    pub files_skipped: u64,
    pub index_files_created: u64,
    pub index_files_deleted: u64,
    pub provider_uploads_created: u64,
    pub provider_uploads_deleted: u64,
    /// Files of which the provider does not hand out the bytes.
    pub files_unavailable: u64,
    /// Files that were attached to a store by our rows, and no longer are.
    pub files_detached: u64,
    pub stores_failed: u64,
}

status! {
    /// A list of a sync's findings: `rag_sync_findings.kind`, and a field of the result.
    FindingKind ("kind of finding") {
        /// What became of each file, one line per file and domain.
        FileResults = "file_results",
        /// Files whose bytes here and at the provider differ.
        FilesByteMismatches = "files_byte_mismatches",
        /// Files whose bytes on disk are not those of their row, or are gone.
        FilesCorrupted = "files_corrupted",
        /// What failed, without ending the sync.
        Errors = "errors",
        /// Indexes whose store is gone.
        StoresMissing = "stores_missing",
        /// Stores without an index.
        StoresExtra = "stores_extra",
        /// Stores that were left alone, and why.
        StoresSkipped = "stores_skipped",
        /// Indexes with other settings than their stores.
        SettingsDiffer = "settings_differ",
        /// Files that were attached to a store by our rows, and no longer are.
        FilesMissing = "files_missing",
        /// Files in a store that its index does not link.
        FilesExtra = "files_extra",
    }
}

status! {
    /// What a run does now: `rag_sync_runs.phase`. The first four are of a provider's sync, the others of a domain's.
    SyncPhase ("phase of a sync") {
        /// The stores are listed.
        List = "list",
        /// The indexes without a listed store are counted.
        Missing = "missing",
        /// Those whose stores are gone are detached.
        Detach = "detach",
        /// The stores are read, one after another.
        Stores = "stores",
        /// Each index is synced by a job of its own.
        Indexes = "indexes",
        /// Those whose stores are gone are detached by jobs of their own.
        DetachIndexes = "detach_indexes",
    }
}

transitions! {
    SyncPhase {
        /// The next page, or from the start again.
        LIST: List => List,
        COUNT_MISSING: List => Missing,
        DETACH: Missing => Detach,
        READ_STORES: Detach => Stores,
        DETACH_INDEXES: Indexes | DetachIndexes => DetachIndexes,
    }
}

status! {
    /// The state of one item of a run: `rag_sync_items.state`.
    ItemState ("item state") {
        Waiting = "waiting",
        /// Tried once without success; it is tried again after all others.
        Postponed = "postponed",
        /// A job of its own works on it.
        Asked = "asked",
        Done = "done",
        Failed = "failed",
        /// Left alone on purpose.
        Skipped = "skipped",
        /// Its store is not there.
        Gone = "gone",
    }
}

transitions! {
    ItemState {
        /// A job of its own was enqueued.
        ASK: Waiting | Gone => Asked,
        /// The try failed; all others come first.
        POSTPONE: Waiting => Postponed,
        COMPLETE: Waiting | Postponed | Asked => Done,
        FAIL: Waiting | Postponed | Asked => Failed,
        SKIP: Waiting | Postponed | Gone => Skipped,
        LOSE: Waiting | Asked => Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_older_versions_are_read() {
        let counts: SyncCounts = serde_json::from_str(r#"{"files_kept": 2}"#).unwrap();
        assert_eq!((counts.files_kept, counts.files_created), (2, 0));
    }
}
