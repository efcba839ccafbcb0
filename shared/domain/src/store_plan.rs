//! What a store means for its index when a provider is synced: rows and links to be made, links to be removed.
//!
//! Pure, so that a report (`dry_run`) and a sync can't differ.

use std::collections::{HashMap, HashSet};

use crate::{ChunkingProof, ChunkingStrategy, FileId, IndexDiff, ListedFile};

/// A listed file that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFile<'a> {
    pub file_id: FileId,
    /// The id of its copy by our rows, if they reference this very copy.
    pub upload: Option<&'a str>,
    /// The file's own strategy.
    pub strategy: Option<ChunkingStrategy>,
    /// Its deletion was asked for.
    pub is_deleted: bool,
}

/// A file that the index links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkedFile {
    pub file_id: FileId,
    /// The link's own strategy.
    pub strategy: Option<ChunkingStrategy>,
    /// A build has had a chance to carry the link out.
    pub was_built: bool,
}

/// A row of the index, beside its [`crate::AttachedRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowOwner {
    pub file_id: FileId,
    /// An earlier sync found that the file had left the store.
    pub has_left: bool,
}

/// Everything that is compared; `known` goes with `listed`, and `rows` with the rows of `diff`, position by position.
#[derive(Debug)]
pub struct StoreView<'a> {
    pub listed: &'a [ListedFile<'a>],
    pub known: &'a [Option<KnownFile<'a>>],
    pub rows: &'a [RowOwner],
    pub diff: &'a IndexDiff,
    pub links: &'a [LinkedFile],
    /// For files without a strategy of their own.
    pub index_strategy: Option<ChunkingStrategy>,
    /// Links of files that are not in the store are removed.
    pub strict: bool,
}

/// A row to be made for a listed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRow {
    pub listed: usize,
    pub file_id: FileId,
    pub strategy: Option<ChunkingStrategy>,
}

/// A link to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLink {
    pub file_id: FileId,
    pub strategy: Option<ChunkingStrategy>,
}

/// What is to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorePlan {
    /// Rows for files that are in the store without one.
    pub attach: Vec<NewRow>,
    /// In the order of the listing.
    pub links: Vec<NewLink>,
    /// Strict mode.
    pub unlink: Vec<FileId>,
    /// Listed files of whose copies only the id in the Files API was known.
    pub store_file_ids: Vec<usize>,
    /// Files that the index loses.
    pub removed: u64,
}

impl StorePlan {
    pub fn new(view: &StoreView<'_>) -> Self {
        let links: HashMap<FileId, &LinkedFile> =
            view.links.iter().map(|link| (link.file_id, link)).collect();
        let missing: HashSet<usize> = view.diff.missing.iter().copied().collect();
        let corrected: HashSet<usize> = view.diff.corrections.iter().map(|(row, _)| *row).collect();
        let without_row: HashSet<usize> = view.diff.unknown.iter().copied().collect();
        let is_present = |(at, row): &(usize, &RowOwner)| {
            !missing.contains(at) && (!row.has_left || corrected.contains(at))
        };
        let rows = view.rows.iter().enumerate();
        let mut present: HashSet<FileId> = rows.filter(is_present).map(|(_, row)| row.file_id).collect();
        let mut plan = Self::default();
        for (at, (file, known)) in view.listed.iter().zip(view.known).enumerate() {
            // A file that is being deleted leaves the store by that.
            let Some(known) = known.filter(|known| !known.is_deleted) else {
                continue;
            };
            if file.store_file_id != file.file_id && known.upload == Some(file.file_id) {
                plan.store_file_ids.push(at);
            }
            if !without_row.contains(&at) {
                // A build of ours attached it. If it is not linked, somebody has unlinked it, and a build detaches it.
                continue;
            }
            let link = links.get(&known.file_id);
            let mut strategy = link.and_then(|link| link.strategy);
            if link.is_none() && !present.contains(&known.file_id) {
                // Should the store be made anew, the file is attached with the strategy that it has there now.
                let wanted = ChunkingStrategy::effective(None, known.strategy, view.index_strategy);
                if wanted.is_none() || !is_met(wanted, file) {
                    strategy = expressible(file);
                }
                plan.links.push(NewLink {
                    file_id: known.file_id,
                    strategy,
                });
            }
            present.insert(known.file_id);
            let wanted = ChunkingStrategy::effective(strategy, known.strategy, view.index_strategy);
            plan.attach.push(NewRow {
                listed: at,
                file_id: known.file_id,
                strategy: if is_met(wanted, file) {
                    wanted
                } else {
                    expressible(file)
                },
            });
        }
        let gone: HashSet<FileId> = view
            .diff
            .missing
            .iter()
            .filter_map(|at| view.rows.get(*at))
            .map(|row| row.file_id)
            .collect();
        if view.strict {
            // A link that no build has carried out yet is a newer wish than what the store shows.
            plan.unlink = view
                .links
                .iter()
                .filter(|link| !present.contains(&link.file_id))
                .filter(|link| gone.contains(&link.file_id) || link.was_built)
                .map(|link| link.file_id)
                .collect();
        }
        let unlinked = plan.unlink.iter().filter(|id| !gone.contains(id)).count();
        plan.removed = (gone.len() + unlinked) as u64;
        plan
    }
}

/// Whether a build would accept the strategy in effect: what can't be compared (`other`, or what `auto` came to) is no
/// difference.
fn is_met(wanted: Option<ChunkingStrategy>, file: &ListedFile<'_>) -> bool {
    ChunkingProof::of(wanted, file.report.strategy.as_ref(), None) != ChunkingProof::Differs
}

/// The strategy in effect, in our own terms.
fn expressible(file: &ListedFile<'_>) -> Option<ChunkingStrategy> {
    ChunkingStrategy::from_json(file.report.strategy.as_ref()?).ok()
}

#[cfg(test)]
mod tests;
