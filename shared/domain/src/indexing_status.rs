//! Where an index stands, which moves are legal, and how the states of its files add up.

use crate::status::status;

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

impl IndexingStatus {
    /// The statuses from which a move to `self` is legal: the `WHERE` of each transition.
    ///
    /// A build always passes through `in_progress`. A look at the provider may find that what was done is being indexed
    /// again, has failed since, or has recovered; and a store that is gone makes any index `not_indexed`.
    pub const fn predecessors(self) -> &'static [Self] {
        match self {
            Self::InProgress => &[Self::NotIndexed, Self::InProgress, Self::Done, Self::Failed],
            Self::NotIndexed | Self::Done | Self::Failed => &[Self::InProgress, Self::Done, Self::Failed],
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
    /// and all are completed → done. `None` where there are no files to speak of.
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
        for end in [IndexingStatus::Done, IndexingStatus::Failed] {
            assert!(!end.predecessors().contains(&IndexingStatus::NotIndexed));
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
