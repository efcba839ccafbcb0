//! What a store means for its index: rows and listing are handed to [`rag_domain::StorePlan`], settings to `settings`.

use std::collections::{HashMap, HashSet};

use rag_db::attachments::{Attachment, NOT_IN_STORE};
use rag_db::imports::Known;
use rag_db::index_files::Link;
use rag_db::indexes::{Index, IndexChanges};
use rag_domain::{AttachmentId, AttachmentState, KnownFile, LinkedFile, RowOwner, StorePlan, StoreView};
use serde_json::Value;

use super::settings;
use crate::observe::listing::StoreListing;
use crate::observe::store_file::SeenFile;
use crate::sync::apply::Difference;

/// What is to be written for a store.
#[derive(Debug)]
pub(super) struct StoreChanges<'a> {
    /// Settings of the index that are others at the provider, and how they differ.
    pub(super) settings: Option<(IndexChanges, Value)>,
    pub(super) difference: Difference<'a>,
    pub(super) plan: StorePlan,
}

impl<'a> StoreChanges<'a> {
    /// `index`: `None` for a store that becomes one. `known`: the store's files that are ours, by either of their ids.
    pub(super) fn new(
        index: Option<&Index>,
        listing: &'a StoreListing,
        known: &HashMap<String, Known>,
        rows: &'a [Attachment],
        links: &[Link],
        left: &HashSet<AttachmentId>,
        strict: bool,
    ) -> Self {
        let difference = Difference::new(rows, listing, left);
        let known: Vec<_> = listing
            .files
            .iter()
            .map(|file| find(known, file).map(known_file))
            .collect();
        let owners: Vec<_> = difference.rows.iter().map(|row| row_owner(row)).collect();
        let links: Vec<_> = links.iter().map(|link| linked_file(index, link)).collect();
        let plan = StorePlan::new(&StoreView {
            listed: &difference.listed,
            known: &known,
            rows: &owners,
            diff: &difference.diff,
            links: &links,
            index_strategy: match index {
                Some(index) => index.chunking_strategy,
                None => settings::strategy(&listing.store),
            },
            strict: strict && index.is_some(),
        });
        Self {
            settings: index.and_then(|index| settings::difference(index, &listing.store)),
            difference,
            plan,
        }
    }
}

pub(super) fn find<'a>(known: &'a HashMap<String, Known>, file: &SeenFile) -> Option<&'a Known> {
    known
        .get(&file.file_id)
        .or_else(|| known.get(&file.store_file_id))
}

fn known_file(known: &Known) -> KnownFile<'_> {
    KnownFile {
        file_id: known.file_id,
        upload: known.upload.as_deref(),
        strategy: known.chunking_strategy,
        is_deleted: known.is_deleted,
    }
}

fn row_owner(row: &Attachment) -> RowOwner {
    RowOwner {
        file_id: row.local_file_id,
        has_left: row.state == AttachmentState::Failed && row.error_code.as_deref() == Some(NOT_IN_STORE),
    }
}

/// A link that is younger than the last build is a wish that no build has had a chance to carry out.
fn linked_file(index: Option<&Index>, link: &Link) -> LinkedFile {
    let built_at = index.and_then(|index| index.indexed_at);
    LinkedFile {
        file_id: link.file_id,
        strategy: link.chunking_strategy,
        was_built: built_at.is_some_and(|at| link.created_at <= at),
    }
}
