//! The indexing status of an index, its legal moves, and how the states of its files add up to it.

use crate::Transition;
use crate::status::status;
use crate::transition::transitions;

status! {
    /// `rag_indexes.indexing_status`.
    IndexingStatus ("indexing status") {
        /// Nothing was built yet, or the store that was built is gone.
        NotIndexed = "not_indexed",
        /// A build runs, or the provider still indexes.
        InProgress = "in_progress",
        /// Every file is indexed.
        Done = "done",
        /// At least one file, or the build as a whole, failed; `last_error` says why.
        Failed = "failed",
    }
}

transitions! {
    IndexingStatus {
        /// A build begins.
        BEGIN: NotIndexed | InProgress | Done | Failed => InProgress,
        /// A build ends with every file indexed.
        FINISH: InProgress => Done,
        /// A build ends without.
        FAIL: InProgress => Failed,
        /// A sync begins to correct an index that was never built.
        OPEN: NotIndexed => InProgress,
        /// A sync finds that the provider indexes again.
        OBSERVE_IN_PROGRESS: InProgress | Done | Failed => InProgress,
        /// A sync finds every file indexed.
        OBSERVE_DONE: InProgress | Done | Failed => Done,
        /// A sync finds a file that failed.
        OBSERVE_FAILED: InProgress | Done | Failed => Failed,
        /// A sync finds that the store is gone.
        OBSERVE_NOT_INDEXED: NotIndexed | InProgress | Done | Failed => NotIndexed,
    }
}

impl IndexingStatus {
    /// The move that a sync makes when it finds an index in this status. An index that was never built has to
    /// [`OPEN`](Self::OPEN) first.
    pub const fn observed(self) -> Transition<Self> {
        match self {
            Self::NotIndexed => Self::OBSERVE_NOT_INDEXED,
            Self::InProgress => Self::OBSERVE_IN_PROGRESS,
            Self::Done => Self::OBSERVE_DONE,
            Self::Failed => Self::OBSERVE_FAILED,
        }
    }

    /// The move with which a build ends; `None`: no build ends in this status.
    pub const fn build_end(self) -> Option<Transition<Self>> {
        match self {
            Self::Done => Some(Self::FINISH),
            Self::Failed => Some(Self::FAIL),
            Self::NotIndexed | Self::InProgress => None,
        }
    }
}

/// How many files of an index are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileCounts {
    pub in_progress: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl FileCounts {
    pub const fn total(&self) -> u64 {
        self.in_progress + self.completed + self.failed + self.cancelled
    }

    /// The aggregation rule: any failed → failed; else any in progress → in progress; else, if there are files
    /// and all are completed → done. `None` if there are no files.
    ///
    /// A cancelled file counts as failed: it is not searchable, and nothing will change that without a new build.
    pub const fn aggregate(&self) -> Option<IndexingStatus> {
        if self.failed + self.cancelled > 0 {
            Some(IndexingStatus::Failed)
        } else if self.in_progress > 0 {
            Some(IndexingStatus::InProgress)
        } else if self.completed > 0 {
            Some(IndexingStatus::Done)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregation_follows_the_order_of_the_rule() {
        let counts = |in_progress, completed, failed, cancelled| FileCounts {
            in_progress,
            completed,
            failed,
            cancelled,
        };
        assert_eq!(counts(1, 1, 1, 0).aggregate(), Some(IndexingStatus::Failed));
        assert_eq!(counts(0, 1, 0, 1).aggregate(), Some(IndexingStatus::Failed));
        assert_eq!(counts(1, 5, 0, 0).aggregate(), Some(IndexingStatus::InProgress));
        assert_eq!(counts(0, 5, 0, 0).aggregate(), Some(IndexingStatus::Done));
        assert_eq!(counts(0, 0, 0, 0).aggregate(), None);
    }

    #[test]
    fn nothing_is_done_or_failed_without_having_been_in_progress() {
        for transition in IndexingStatus::TRANSITIONS {
            let is_end = matches!(transition.to, IndexingStatus::Done | IndexingStatus::Failed);
            assert!(!(is_end && transition.is_legal_from(&IndexingStatus::NotIndexed)));
        }
    }

    #[test]
    fn text_round_trips_and_strangers_are_named() {
        for status in IndexingStatus::ALL {
            assert_eq!(IndexingStatus::try_from(status.as_str().to_owned()), Ok(*status));
        }
        let error = IndexingStatus::try_from("indexed".to_owned()).unwrap_err();
        assert_eq!(error.to_string(), "`indexed` is not a known indexing status");
    }
}
