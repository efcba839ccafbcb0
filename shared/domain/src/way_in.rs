//! The ways in which files get into a vector store, from one call to many, and which one to take.
//!
//! Servers differ: some take a batch of files that each have their own strategy, some accept such a batch and attach
//! nothing, some have no batches. What a connection is known to do decides the way; what a file was seen to need does too.

use crate::ChunkingStrategy;
use crate::status::status;

status! {
    /// `rag_index_attachments.attach_method`, in the order in which they are tried.
    WayIn ("way in") {
        /// A batch of `files`, each with its own strategy.
        BatchFiles = "batch_files",
        /// A batch of `file_ids` with one strategy for all.
        BatchFileIds = "batch_file_ids",
        /// One call for each file.
        Single = "single",
    }
}

impl WayIn {
    /// What is to be tried after this way was taken in vain; as `rag_index_attachments.next_method` counts.
    pub const fn rung(self) -> u8 {
        match self {
            Self::BatchFiles => 0,
            Self::BatchFileIds => 1,
            Self::Single => 2,
        }
    }
}

/// What a connection takes, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrances {
    /// There are batches.
    pub batches: bool,
    /// The files of a batch may differ.
    pub batch_files: bool,
}

/// A file that waits to be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub strategy: Option<ChunkingStrategy>,
    /// Lower rungs were taken in vain.
    pub next_way: u8,
}

/// The files that go in with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub way: WayIn,
    /// Their places in what was waiting.
    pub files: Vec<usize>,
}

/// Files that are alike, by their places.
type Group = (Option<ChunkingStrategy>, Vec<usize>);

/// Parts what waits into calls of at most `max_batch` files: every file is in exactly one of them.
///
/// Files that are alike go in by `file_ids` from the start: that form is the older one, and every server with batches takes it.
pub fn calls(waiting: &[Waiting], entrances: Entrances, max_batch: usize) -> Vec<Call> {
    let max_batch = max_batch.max(1);
    let mut calls = Vec::new();
    let mut mixed = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut single = Vec::new();
    let may_differ = entrances.batches
        && entrances.batch_files
        && differ(
            waiting
                .iter()
                .filter(|file| file.next_way == WayIn::BatchFiles.rung()),
        );
    for (place, file) in waiting.iter().enumerate() {
        if !entrances.batches || file.next_way >= WayIn::Single.rung() {
            single.push(place);
        } else if may_differ && file.next_way == WayIn::BatchFiles.rung() {
            mixed.push(place);
        } else {
            match groups.iter_mut().find(|(strategy, _)| *strategy == file.strategy) {
                Some((_, group)) => group.push(place),
                None => groups.push((file.strategy, vec![place])),
            }
        }
    }
    for files in mixed.chunks(max_batch) {
        // A part of what differs may well be alike.
        let way = if differ(files.iter().filter_map(|place| waiting.get(*place))) {
            WayIn::BatchFiles
        } else {
            WayIn::BatchFileIds
        };
        push(&mut calls, way, files);
    }
    for files in groups.iter().flat_map(|(_, group)| group.chunks(max_batch)) {
        push(&mut calls, WayIn::BatchFileIds, files);
    }
    for place in &single {
        push(&mut calls, WayIn::Single, std::slice::from_ref(place));
    }
    calls
}

fn differ<'a>(mut files: impl Iterator<Item = &'a Waiting>) -> bool {
    let first = files.next().map(|file| file.strategy);
    files.any(|file| Some(file.strategy) != first)
}

/// One file alone needs no batch.
fn push(calls: &mut Vec<Call>, way: WayIn, files: &[usize]) {
    let way = if files.len() == 1 { WayIn::Single } else { way };
    let files = files.to_vec();
    calls.push(Call { way, files });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Entrances = Entrances {
        batches: true,
        batch_files: true,
    };

    fn file(size: u32, next_way: u8) -> Waiting {
        Waiting {
            strategy: (size > 0).then(|| ChunkingStrategy::fixed(size, 0)),
            next_way,
        }
    }

    fn ways(waiting: &[Waiting], entrances: Entrances) -> Vec<(WayIn, usize)> {
        let calls = calls(waiting, entrances, 500);
        calls.iter().map(|call| (call.way, call.files.len())).collect()
    }

    #[test]
    fn each_server_gets_the_fewest_calls_that_it_takes() {
        let files = [file(0, 0), file(0, 0), file(200, 0), file(200, 0), file(300, 0)];
        assert_eq!(ways(&files, ALL), [(WayIn::BatchFiles, 5)]);
        let no_files = Entrances {
            batch_files: false,
            ..ALL
        };
        assert_eq!(
            ways(&files, no_files),
            [
                (WayIn::BatchFileIds, 2),
                (WayIn::BatchFileIds, 2),
                (WayIn::Single, 1)
            ]
        );
        let no_batches = Entrances {
            batches: false,
            ..ALL
        };
        assert_eq!(ways(&files, no_batches), [(WayIn::Single, 1); 5]);
        assert_eq!(ways(&files[..2], ALL), [(WayIn::BatchFileIds, 2)], "alike");
    }

    #[test]
    fn what_one_way_did_not_bring_in_takes_the_next() {
        let files = [file(0, 1), file(0, 1), file(200, 1), file(200, 1), file(0, 2)];
        assert_eq!(
            ways(&files, ALL),
            [
                (WayIn::BatchFileIds, 2),
                (WayIn::BatchFileIds, 2),
                (WayIn::Single, 1)
            ]
        );
    }

    proptest! {
        #[test]
        fn every_file_goes_in_once_by_a_way_that_is_open(
            files in prop::collection::vec((0_u32..4, 0_u8..3), 0..60), batches: bool, batch_files: bool, max in 1_usize..20,
        ) {
            let waiting: Vec<_> = files.iter().map(|(size, way)| file(size * 100, *way)).collect();
            let calls = calls(&waiting, Entrances { batches, batch_files }, max);
            let mut places: Vec<usize> = calls.iter().flat_map(|call| call.files.clone()).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..waiting.len()).collect::<Vec<_>>());
            for call in &calls {
                let of_call: Vec<&Waiting> = call.files.iter().map(|place| &waiting[*place]).collect();
                prop_assert!(call.files.len() <= max && of_call.iter().all(|file| file.next_way <= call.way.rung()));
                let alike = of_call.iter().all(|file| file.strategy == of_call[0].strategy);
                prop_assert!(alike || call.way == WayIn::BatchFiles && batches && batch_files);
                prop_assert!(batches || call.way == WayIn::Single);
            }
        }
    }
}
