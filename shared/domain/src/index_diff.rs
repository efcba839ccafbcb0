//! What a complete listing of a store means for the rows of its index, while no build is at work on it.
//!
//! Pure: the caller observes a store, passes what was listed and what rows say, and acts on the positions that come back.

use std::collections::HashSet;

use serde_json::Value;

use crate::{AttachedFile, AttachmentId, AttachmentState, StoreDiff};

/// What is told of a file in a store: by the provider, or by our row.
#[derive(Debug, Clone, PartialEq)]
pub struct FileReport<'a> {
    pub state: AttachmentState,
    /// The strategy in effect, in its wire form.
    pub strategy: Option<Value>,
    pub usage_bytes: Option<u64>,
    pub error_code: Option<&'a str>,
    pub last_error: Option<&'a str>,
}

/// A file of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedFile<'a> {
    /// In the Files API.
    pub file_id: &'a str,
    /// Within the store; often the same.
    pub store_file_id: &'a str,
    pub report: FileReport<'a>,
}

/// A row of the store's index.
#[derive(Debug, Clone, PartialEq)]
pub struct AttachedRow<'a> {
    pub file: AttachedFile,
    pub report: FileReport<'a>,
    /// An earlier listing lacked the file.
    pub is_missed: bool,
}

/// Rows against a listing, by positions in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexDiff {
    /// Rows that say otherwise than the provider, and the listed file that they are about.
    pub corrections: Vec<(usize, usize)>,
    /// Rows of files that were in the store and are proven to have left it.
    pub missing: Vec<usize>,
    /// Listed files without a row.
    pub unknown: Vec<usize>,
    /// Rows of files that were missed and are there.
    pub seen_again: Vec<usize>,
}

impl IndexDiff {
    /// `left`: rows whose files are proven to have left the store. A row that the listing lacks without that proof is in no
    /// list: nothing is known of its file.
    pub fn new(rows: &[AttachedRow<'_>], listed: &[ListedFile<'_>], left: &HashSet<AttachmentId>) -> Self {
        let mut matcher = StoreDiff::new(rows.iter().map(|row| row.file.clone()));
        let positions: std::collections::HashMap<AttachmentId, usize> = rows
            .iter()
            .enumerate()
            .map(|(position, row)| (row.file.attachment, position))
            .collect();
        let mut diff = Self::default();
        for (at, file) in listed.iter().enumerate() {
            let row = matcher
                .meet(file.file_id, file.store_file_id)
                .and_then(|id| Some((*positions.get(&id)?, rows.get(*positions.get(&id)?)?)));
            match row {
                None => diff.unknown.push(at),
                Some((position, row)) if row.differs_from(file) => diff.corrections.push((position, at)),
                Some((position, row)) if row.is_missed => diff.seen_again.push(position),
                Some(_) => {}
            }
        }
        let missing = matcher.missing().into_iter().filter(|id| left.contains(id));
        diff.missing = missing.filter_map(|id| positions.get(&id).copied()).collect();
        diff
    }
}

impl AttachedRow<'_> {
    /// What we are taking out stays so, whatever the provider says.
    fn differs_from(&self, file: &ListedFile<'_>) -> bool {
        let (own, theirs) = (&self.report, &file.report);
        own.state != AttachmentState::Detaching
            && (own.state != theirs.state
                || (theirs.strategy.is_some() && own.strategy != theirs.strategy)
                || own.usage_bytes != theirs.usage_bytes
                || own.error_code != theirs.error_code
                || own.last_error != theirs.last_error
                || (file.store_file_id != file.file_id && file.store_file_id != self.file.store_file_id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(state: AttachmentState, usage_bytes: u64) -> FileReport<'static> {
        FileReport {
            state,
            strategy: None,
            usage_bytes: Some(usage_bytes),
            error_code: None,
            last_error: None,
        }
    }

    fn row(id: &str, state: AttachmentState, usage_bytes: u64) -> AttachedRow<'static> {
        AttachedRow {
            file: AttachedFile {
                attachment: AttachmentId::new(),
                file_id: id.to_owned(),
                store_file_id: id.to_owned(),
                state,
            },
            report: report(state, usage_bytes),
            is_missed: false,
        }
    }

    fn listed(id: &str, state: AttachmentState, usage_bytes: u64) -> ListedFile<'_> {
        ListedFile {
            file_id: id,
            store_file_id: id,
            report: report(state, usage_bytes),
        }
    }

    /// As a sync writes it: what is told replaces what the row says; what has left is gone.
    fn apply<'a>(
        rows: &[AttachedRow<'a>],
        files: &[ListedFile<'a>],
        diff: &IndexDiff,
    ) -> Vec<AttachedRow<'a>> {
        let mut rows = rows.to_vec();
        for (row, file) in &diff.corrections {
            let (row, file) = (&mut rows[*row], &files[*file]);
            (row.report, row.is_missed) = (file.report.clone(), false);
            row.file.state = file.report.state;
            row.file.store_file_id = file.store_file_id.to_owned();
        }
        for row in &diff.seen_again {
            rows[*row].is_missed = false;
        }
        let kept = rows
            .into_iter()
            .enumerate()
            .filter(|(at, _)| !diff.missing.contains(at));
        kept.map(|(_, row)| row).collect()
    }

    #[test]
    fn each_kind_of_difference_has_its_list() {
        use AttachmentState::{Completed, Detaching, Failed, InProgress};
        let mut rows = [
            row("same", Completed, 1),
            row("failed", InProgress, 0),
            row("gone", Completed, 1),
            row("doubtful", Completed, 1),
            row("leaving", Detaching, 1),
            row("back", Completed, 1),
        ];
        rows[5].is_missed = true;
        let files = [
            listed("same", Completed, 1),
            listed("failed", Failed, 0),
            listed("leaving", Completed, 1),
            listed("stranger", Completed, 1),
            listed("back", Completed, 1),
        ];
        let left = HashSet::from([rows[2].file.attachment]);
        let expected = IndexDiff {
            corrections: vec![(1, 1)],
            missing: vec![2],
            unknown: vec![3],
            seen_again: vec![5],
        };
        assert_eq!(IndexDiff::new(&rows, &files, &left), expected);
    }

    #[test]
    fn a_provider_that_reports_no_strategy_contradicts_none() {
        let mut ours = row("a", AttachmentState::Completed, 1);
        ours.report.strategy = Some(serde_json::json!({"type": "auto"}));
        let rows = [ours];
        let diff = IndexDiff::new(
            &rows,
            &[listed("a", AttachmentState::Completed, 1)],
            &HashSet::new(),
        );
        assert_eq!(diff, IndexDiff::default());
    }

    const IDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

    fn state() -> impl Strategy<Value = AttachmentState> {
        prop::sample::select(AttachmentState::ALL)
    }

    /// The states that a provider tells.
    fn told() -> impl Strategy<Value = AttachmentState> {
        use AttachmentState::{Cancelled, Completed, Failed, InProgress};
        prop::sample::select(vec![Completed, Failed, Cancelled, InProgress])
    }

    fn rows() -> impl Strategy<Value = Vec<AttachedRow<'static>>> {
        prop::sample::subsequence(IDS.to_vec(), 0..IDS.len()).prop_flat_map(|ids| {
            let count = ids.len();
            (
                Just(ids),
                prop::collection::vec((state(), 0_u64..3, any::<bool>()), count),
            )
                .prop_map(|(ids, told)| {
                    let rows = ids.into_iter().zip(told);
                    rows.map(|(id, (state, usage, is_missed))| AttachedRow {
                        is_missed,
                        ..row(id, state, usage)
                    })
                    .collect()
                })
        })
    }

    fn files() -> impl Strategy<Value = Vec<ListedFile<'static>>> {
        prop::sample::subsequence(IDS.to_vec(), 0..IDS.len()).prop_flat_map(|ids| {
            let count = ids.len();
            (Just(ids), prop::collection::vec((told(), 0_u64..3), count)).prop_map(|(ids, told)| {
                ids.into_iter()
                    .zip(told)
                    .map(|(id, (state, usage))| listed(id, state, usage))
                    .collect()
            })
        })
    }

    proptest! {
        #[test]
        fn a_second_diff_after_the_first_was_applied_is_empty(rows in rows(), files in files()) {
            // The strongest proof that there is: whatever is not listed has left.
            let left: HashSet<_> = rows.iter().map(|row| row.file.attachment).collect();
            let diff = IndexDiff::new(&rows, &files, &left);
            let after = apply(&rows, &files, &diff);
            let again = IndexDiff::new(&after, &files, &left);
            prop_assert_eq!(again, IndexDiff { unknown: diff.unknown, ..IndexDiff::default() });
        }

        #[test]
        fn nothing_is_missing_without_proof(rows in rows(), files in files()) {
            prop_assert!(IndexDiff::new(&rows, &files, &HashSet::new()).missing.is_empty());
        }

        #[test]
        fn only_rows_that_claim_to_be_in_the_store_can_be_missing(rows in rows(), files in files()) {
            let left: HashSet<_> = rows.iter().map(|row| row.file.attachment).collect();
            for at in IndexDiff::new(&rows, &files, &left).missing {
                prop_assert!(rows[at].report.state.claims_presence());
                prop_assert!(files.iter().all(|file| file.file_id != rows[at].file.file_id));
            }
        }

        #[test]
        fn the_order_of_the_listing_does_not_matter(rows in rows(), files in files().prop_shuffle()) {
            let left: HashSet<_> = rows.iter().map(|row| row.file.attachment).collect();
            let mut sorted = files.clone();
            sorted.sort_by_key(|file| file.file_id);
            let named = |files: &[ListedFile<'static>]| {
                let diff = IndexDiff::new(&rows, files, &left);
                let mut corrections: Vec<_> = diff.corrections.iter().map(|(row, file)| (*row, files[*file].file_id)).collect();
                let mut unknown: Vec<_> = diff.unknown.iter().map(|file| files[*file].file_id).collect();
                let mut seen_again = diff.seen_again;
                corrections.sort_unstable();
                unknown.sort_unstable();
                seen_again.sort_unstable();
                (corrections, unknown, seen_again, diff.missing)
            };
            prop_assert_eq!(named(&files), named(&sorted));
        }
    }
}
