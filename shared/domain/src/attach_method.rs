//! The methods by which files are attached to a vector store, from one call for many to one for each, and which one to use.
//!
//! Servers differ: some take a batch of files that each have their own strategy, some accept such a batch and attach
//! nothing, some have no batches. What a connection is known to do decides the method; what a file was seen to need does too.

use crate::ChunkingStrategy;
use crate::status::status;

status! {
    /// `rag_index_attachments.attach_method`, in the order in which they are tried.
    AttachMethod ("attach method") {
        /// A batch of `files`, each with its own strategy.
        BatchFiles = "batch_files",
        /// A batch of `file_ids` with one strategy for all.
        BatchFileIds = "batch_file_ids",
        /// One call for each file.
        Single = "single",
    }
}

impl AttachMethod {
    /// Its position in the order in which methods are tried; `rag_index_attachments.next_method` counts so.
    pub const fn rank(self) -> u8 {
        match self {
            Self::BatchFiles => 0,
            Self::BatchFileIds => 1,
            Self::Single => 2,
        }
    }
}

/// What a connection takes, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSupport {
    /// There are batches.
    pub batches: bool,
    /// The files of a batch may differ.
    pub batch_files: bool,
}

/// A file that waits to be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingFile {
    pub strategy: Option<ChunkingStrategy>,
    /// Methods of a lower rank did not attach it.
    pub next_way: u8,
}

/// The files that go in with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachCall {
    pub method: AttachMethod,
    /// Their positions in what was waiting.
    pub files: Vec<usize>,
}

/// Files that are alike, by their positions.
type Group = (Option<ChunkingStrategy>, Vec<usize>);

/// Parts what waits into calls of at most `max_batch` files: every file is in exactly one of them.
///
/// Files that are alike go in by `file_ids` from the start: that form is the older one, and every server with batches takes it.
pub fn attach_calls(waiting: &[WaitingFile], support: BatchSupport, max_batch: usize) -> Vec<AttachCall> {
    let max_batch = max_batch.max(1);
    let mut calls = Vec::new();
    let mut mixed = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut single = Vec::new();
    let may_differ = support.batches
        && support.batch_files
        && differ(
            waiting
                .iter()
                .filter(|file| file.next_way == AttachMethod::BatchFiles.rank()),
        );
    for (position, file) in waiting.iter().enumerate() {
        if !support.batches || file.next_way >= AttachMethod::Single.rank() {
            single.push(position);
        } else if may_differ && file.next_way == AttachMethod::BatchFiles.rank() {
            mixed.push(position);
        } else {
            match groups.iter_mut().find(|(strategy, _)| *strategy == file.strategy) {
                Some((_, group)) => group.push(position),
                None => groups.push((file.strategy, vec![position])),
            }
        }
    }
    for files in mixed.chunks(max_batch) {
        // A part of what differs may well be alike.
        let method = if differ(files.iter().filter_map(|position| waiting.get(*position))) {
            AttachMethod::BatchFiles
        } else {
            AttachMethod::BatchFileIds
        };
        push(&mut calls, method, files);
    }
    for files in groups.iter().flat_map(|(_, group)| group.chunks(max_batch)) {
        push(&mut calls, AttachMethod::BatchFileIds, files);
    }
    for position in &single {
        push(&mut calls, AttachMethod::Single, std::slice::from_ref(position));
    }
    calls
}

fn differ<'a>(mut files: impl Iterator<Item = &'a WaitingFile>) -> bool {
    let first = files.next().map(|file| file.strategy);
    files.any(|file| Some(file.strategy) != first)
}

/// One file alone needs no batch.
fn push(calls: &mut Vec<AttachCall>, method: AttachMethod, files: &[usize]) {
    let method = if files.len() == 1 {
        AttachMethod::Single
    } else {
        method
    };
    let files = files.to_vec();
    calls.push(AttachCall { method, files });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: BatchSupport = BatchSupport {
        batches: true,
        batch_files: true,
    };

    fn file(size: u32, next_way: u8) -> WaitingFile {
        WaitingFile {
            strategy: (size > 0).then(|| ChunkingStrategy::fixed(size, 0)),
            next_way,
        }
    }

    fn ways(waiting: &[WaitingFile], support: BatchSupport) -> Vec<(AttachMethod, usize)> {
        let calls = attach_calls(waiting, support, 500);
        calls.iter().map(|call| (call.method, call.files.len())).collect()
    }

    #[test]
    fn each_server_gets_the_fewest_calls_that_it_takes() {
        let files = [file(0, 0), file(0, 0), file(200, 0), file(200, 0), file(300, 0)];
        assert_eq!(ways(&files, ALL), [(AttachMethod::BatchFiles, 5)]);
        let no_files = BatchSupport {
            batch_files: false,
            ..ALL
        };
        assert_eq!(
            ways(&files, no_files),
            [
                (AttachMethod::BatchFileIds, 2),
                (AttachMethod::BatchFileIds, 2),
                (AttachMethod::Single, 1)
            ]
        );
        let no_batches = BatchSupport {
            batches: false,
            ..ALL
        };
        assert_eq!(ways(&files, no_batches), [(AttachMethod::Single, 1); 5]);
        assert_eq!(ways(&files[..2], ALL), [(AttachMethod::BatchFileIds, 2)], "alike");
    }

    #[test]
    fn what_one_way_did_not_bring_in_takes_the_next() {
        let files = [file(0, 1), file(0, 1), file(200, 1), file(200, 1), file(0, 2)];
        assert_eq!(
            ways(&files, ALL),
            [
                (AttachMethod::BatchFileIds, 2),
                (AttachMethod::BatchFileIds, 2),
                (AttachMethod::Single, 1)
            ]
        );
    }

    proptest! {
        #[test]
        fn every_file_goes_in_once_by_a_way_that_is_open(
            files in prop::collection::vec((0_u32..4, 0_u8..3), 0..60), batches: bool, batch_files: bool, max in 1_usize..20,
        ) {
            let waiting: Vec<_> = files.iter().map(|(size, way)| file(size * 100, *way)).collect();
            let calls = attach_calls(&waiting, BatchSupport { batches, batch_files }, max);
            let mut positions: Vec<usize> = calls.iter().flat_map(|call| call.files.clone()).collect();
            positions.sort_unstable();
            prop_assert_eq!(positions, (0..waiting.len()).collect::<Vec<_>>());
            for call in &calls {
                let of_call: Vec<&WaitingFile> = call.files.iter().map(|position| &waiting[*position]).collect();
                prop_assert!(call.files.len() <= max && of_call.iter().all(|file| file.next_way <= call.method.rank()));
                let alike = of_call.iter().all(|file| file.strategy == of_call[0].strategy);
                prop_assert!(alike || call.method == AttachMethod::BatchFiles && batches && batch_files);
                prop_assert!(batches || call.method == AttachMethod::Single);
            }
        }
    }
}
