//! What a store means for its index: pure, so that a report and a sync can't differ.

use std::collections::{HashMap, HashSet};

use rag_db::attachments::{Attachment, NOT_IN_STORE, NewAttachment};
use rag_db::imports::{Known, SeenLink};
use rag_db::index_files::Link;
use rag_db::indexes::{Index, IndexChanges};
use rag_domain::{AttachmentId, AttachmentState, ChunkingProof, ChunkingStrategy, FileId, IndexId};
use serde_json::Value;

use super::settings;
use crate::observe::listing::StoreListing;
use crate::observe::store_file::SeenFile;
use crate::sync::apply::Difference;

/// What is to be written.
#[derive(Debug)]
pub(super) struct StorePlan<'a> {
    /// Settings of the index that are others at the provider, and how they differ.
    pub(super) settings: Option<(IndexChanges, Value)>,
    pub(super) difference: Difference<'a>,
    /// Rows for files that hang in the store without one.
    pub(super) attach: Vec<Attach<'a>>,
    /// In the order of the listing.
    pub(super) links: Vec<SeenLink>,
    /// Strict mode.
    pub(super) unlink: Vec<FileId>,
    /// Copies of which only the id in the Files API was known, and what the store calls them.
    pub(super) store_file_ids: Vec<(&'a str, &'a str)>,
}

/// A row to be made. Its index may not exist yet: the id is filled in when it is written.
#[derive(Debug)]
pub(super) struct Attach<'a> {
    pub(super) row: NewAttachment<'a>,
    pub(super) file: &'a SeenFile,
}

impl<'a> StorePlan<'a> {
    /// `index`: `None` for a store that becomes one. `known`: the store's files that are ours, by either of their ids.
    pub(super) fn new(
        index: Option<&Index>,
        listing: &'a StoreListing,
        known: &'a HashMap<String, Known>,
        rows: &'a [Attachment],
        links: &[Link],
        left: &HashSet<AttachmentId>,
        strict: bool,
    ) -> Self {
        let difference = Difference::new(rows, listing, left);
        let linked: HashMap<FileId, &Link> = links.iter().map(|link| (link.file_id, link)).collect();
        let of_index = match index {
            Some(index) => index.chunking_strategy,
            None => settings::strategy(&listing.store),
        };
        let mut plan = Self {
            settings: index.and_then(|index| settings::difference(index, &listing.store)),
            attach: Vec::new(),
            links: Vec::new(),
            unlink: Vec::new(),
            store_file_ids: Vec::new(),
            difference,
        };
        let mut present: HashSet<FileId> = rows
            .iter()
            .filter(|row| !plan.difference.missing.iter().any(|gone| gone.id == row.id))
            .filter(|row| !plan.left_earlier(row))
            .map(|row| row.local_file_id)
            .collect();
        let without_row: HashSet<&str> = plan
            .difference
            .unknown
            .iter()
            .map(|file| file.file_id.as_str())
            .collect();
        for file in &listing.files {
            // One that is being deleted leaves the store by that.
            let Some(ours) = find(known, file).filter(|ours| !ours.is_deleted) else {
                continue;
            };
            if let Some(store_id) = file.other_store_id()
                && ours.upload.as_deref() == Some(file.file_id.as_str())
            {
                plan.store_file_ids.push((&file.file_id, store_id));
            }
            if !without_row.contains(file.file_id.as_str()) {
                // It hangs there by our doing. If it is not linked, somebody has unlinked it, and a build will take it out.
                continue;
            }
            let mut link_strategy = linked.get(&ours.file_id).and_then(|link| link.chunking_strategy);
            if !linked.contains_key(&ours.file_id) && !present.contains(&ours.file_id) {
                // As it hangs there, so it is to hang again, should the store be made anew.
                let wanted = ChunkingStrategy::effective(None, ours.chunking_strategy, of_index);
                if wanted.is_none() || !is_met(wanted, file) {
                    link_strategy = expressible(file);
                }
                plan.links.push(SeenLink {
                    file_id: ours.file_id,
                    chunking_strategy: link_strategy,
                });
            }
            present.insert(ours.file_id);
            let wanted = ChunkingStrategy::effective(link_strategy, ours.chunking_strategy, of_index);
            plan.attach.push(Attach {
                row: NewAttachment {
                    index_id: index.map_or_else(IndexId::new, |index| index.id),
                    external_store_id: &listing.store.id,
                    local_file_id: ours.file_id,
                    external_file_id: &file.file_id,
                    content_sha256: &ours.copy_sha256,
                    size_bytes: ours.size_bytes,
                    chunking_strategy: if is_met(wanted, file) {
                        wanted
                    } else {
                        expressible(file)
                    },
                },
                file,
            });
        }
        if let Some(index) = index.filter(|_| strict) {
            plan.unlink = links
                .iter()
                .filter(|link| !present.contains(&link.file_id))
                .filter(|link| plan.has_left(link) || was_built(index, link))
                .map(|link| link.file_id)
                .collect();
        }
        plan
    }

    /// An earlier sync found that it had left the store, and it has not come back.
    fn left_earlier(&self, row: &Attachment) -> bool {
        let is_back = || {
            self.difference
                .corrections
                .iter()
                .any(|(back, _)| back.id == row.id)
        };
        row.state == AttachmentState::Failed && row.error_code.as_deref() == Some(NOT_IN_STORE) && !is_back()
    }

    fn has_left(&self, link: &Link) -> bool {
        self.difference
            .missing
            .iter()
            .any(|row| row.local_file_id == link.file_id)
    }

    /// Files that the index loses.
    pub(super) fn removed(&self) -> u64 {
        let missing = self.difference.missing.iter().map(|row| row.local_file_id);
        let all: HashSet<FileId> = missing.chain(self.unlink.iter().copied()).collect();
        all.len() as u64
    }
}

pub(super) fn find<'a>(known: &'a HashMap<String, Known>, file: &SeenFile) -> Option<&'a Known> {
    known
        .get(&file.file_id)
        .or_else(|| known.get(&file.store_file_id))
}

/// A link that is younger than the last build is a wish that no build has had a chance to carry out.
fn was_built(index: &Index, link: &Link) -> bool {
    index.indexed_at.is_some_and(|at| link.created_at <= at)
}

/// Whether a build would be content with the strategy in effect: what can't be compared (`other`, or what `auto` came to) is
/// no difference.
fn is_met(wanted: Option<ChunkingStrategy>, file: &SeenFile) -> bool {
    ChunkingProof::of(wanted, file.reported().as_ref(), None) != ChunkingProof::Differs
}

/// The strategy in effect, in our own terms.
fn expressible(file: &SeenFile) -> Option<ChunkingStrategy> {
    let reported = file.strategy.as_ref()?.to_value();
    ChunkingStrategy::from_json(&reported).ok()
}
