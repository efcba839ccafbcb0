//! A listing against the rows of an index, while no build is at work on it: which files are in the store and their states, the
//! index's status and the provider's payload.
//!
//! The comparison is pure ([`IndexDiff`]); the writing is one function for each of its parts, in the caller's transaction.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rag_db::attachments::{self, Attachment, NOT_IN_STORE};
use rag_db::indexes::{self, Index, IndexChanges};
use rag_db::{composition, store_polls};
use rag_domain::{AttachmentId, AttachmentState, FileCounts, FileId, IndexDiff, IndexingStatus, ListedFile};
use serde::{Deserialize, Serialize};
use sqlx::MySqlConnection;

use crate::observe::listing::StoreListing;
use crate::observe::store_file::{SeenFile, attached};
use crate::provider_payload::with_payload;
use crate::step_error::StepError;

/// Names of failed files in `last_error`; the rest is in the per-file view.
const NAMED_FAILURES: usize = 5;

/// What a listing came to: `sync_report` of the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) external_id: String,
    /// The provider's own word; null where the store is gone.
    pub(crate) store_status: Option<String>,
    pub(crate) file_counts: FileCounts,
    pub(crate) indexing_status_before: IndexingStatus,
    pub(crate) indexing_status: IndexingStatus,
    /// Files whose state was another in our rows.
    pub(crate) files_changed: u64,
    /// Files that were attached by our rows, and proven to be no longer: the next build attaches them again.
    pub(crate) files_missing: u64,
    /// Files that the listing lacks without that being proven; nothing is changed because of them.
    pub(crate) files_uncertain: u64,
    /// Files that somebody else attached: a sync of the provider takes them over.
    pub(crate) files_unknown: u64,
    /// The store is gone.
    pub(crate) gone: bool,
    /// The index has given it up.
    pub(crate) detached: bool,
    /// What could not be told, and why: nothing was changed because of it.
    pub(crate) unknown: Option<String>,
}

/// Rows of an index against a listing: [`IndexDiff`], with the rows and files themselves.
#[derive(Debug)]
pub(crate) struct Difference<'a> {
    /// The rows of this store.
    pub(crate) rows: Vec<&'a Attachment>,
    pub(crate) listed: Vec<ListedFile<'a>>,
    pub(crate) diff: IndexDiff,
    files: &'a [SeenFile],
}

impl<'a> Difference<'a> {
    /// `left`: rows whose files are known to have left the store. What an expired store lists says nothing of its files.
    pub(crate) fn new(
        rows: &'a [Attachment],
        listing: &'a StoreListing,
        left: &HashSet<AttachmentId>,
    ) -> Self {
        let store = listing.store.id.as_str();
        let rows: Vec<&Attachment> = rows.iter().filter(|row| row.external_store_id == store).collect();
        let listed: Vec<ListedFile<'_>> = listing.files.iter().map(SeenFile::listed).collect();
        let diff = if listing.has_expired() {
            IndexDiff::default()
        } else {
            let attached: Vec<_> = rows.iter().map(|row| attached(row)).collect();
            IndexDiff::new(&attached, &listed, left)
        };
        Self {
            rows,
            listed,
            diff,
            files: &listing.files,
        }
    }

    /// Rows that say otherwise than the provider.
    pub(crate) fn corrections(&self) -> impl Iterator<Item = (&'a Attachment, &'a SeenFile)> {
        let pairs = self.diff.corrections.iter();
        pairs.filter_map(|(row, file)| Some((*self.rows.get(*row)?, self.files.get(*file)?)))
    }

    /// Rows of files that are proven to have left the store.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &'a Attachment> {
        self.diff
            .missing
            .iter()
            .filter_map(|row| self.rows.get(*row).copied())
    }

    /// Files in the store without a row.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &'a SeenFile> {
        self.diff.unknown.iter().filter_map(|file| self.files.get(*file))
    }

    /// Writes the states of files into their rows. What has left the store and is linked still has failed until a build puts
    /// it in again; `links`: the files of the index.
    pub(crate) async fn write(
        &self,
        db: &mut MySqlConnection,
        links: &HashSet<FileId>,
    ) -> Result<(), StepError> {
        for (row, file) in self.corrections() {
            let strategy = file.reported();
            let seen = file.observation(row.chunking_strategy, strategy.as_ref());
            attachments::correct(db, row.id, &seen).await?;
        }
        let seen_again = self.diff.seen_again.iter().filter_map(|row| self.rows.get(*row));
        let seen_again: Vec<_> = seen_again.map(|row| row.id).collect();
        attachments::clear_missed(db, &seen_again).await?;
        for row in self.missing() {
            if links.contains(&row.local_file_id) {
                let error = "the file is no longer in the vector store; build the index to attach it again";
                attachments::mark_left(db, row.id, error).await?;
            } else {
                attachments::delete_gone(db, row.id).await?;
            }
        }
        Ok(())
    }
}

/// Writes status and payload of the index, as far as they differ, and the report. The caller holds the index's lock and
/// has written the states of the files.
pub(crate) async fn apply_listing(
    db: &mut MySqlConnection,
    index: &Index,
    listing: &StoreListing,
    difference: &Difference<'_>,
    uncertain: u64,
) -> Result<Report, StepError> {
    let counts = listing.counts();
    // The provider does not count what is not there.
    let left = attachments::list_left(db, index.id).await?;
    // A store without files says nothing of the index, except that nothing is on its way.
    let status = match counts.aggregate() {
        _ if !left.is_empty() => IndexingStatus::Failed,
        Some(status) => status,
        None if index.indexing_status == IndexingStatus::InProgress => IndexingStatus::Done,
        None => index.indexing_status,
    };
    let expired = listing.has_expired();
    let status = if expired { index.indexing_status } else { status };
    let is_told = counts.total() > 0 || !left.is_empty() || status != index.indexing_status;
    if !expired && is_told {
        let error = if status == IndexingStatus::Failed {
            Some(failures(db, index, listing, &left).await?)
        } else {
            None
        };
        let indexed_at = attempt_began(index, listing, status);
        let same = status == index.indexing_status && error == index.last_error && indexed_at.is_none();
        if !same {
            indexes::mark_seen(db, index.id, status, error.as_deref(), indexed_at).await?;
        }
    }
    if let Some(metadata) = with_payload(index.metadata.as_ref(), &listing.store.raw) {
        let changes = IndexChanges {
            metadata: Some(Some(metadata)),
            ..IndexChanges::default()
        };
        indexes::update(db, &index.domain_id, index.id, &changes).await?;
    }
    indexes::set_store_expired(db, index.id, &listing.store.id, expired).await?;
    if index.sync_error.is_some() {
        indexes::set_sync_error(db, index.id, None).await?;
    }
    let report = Report {
        external_id: listing.store.id.clone(),
        store_status: Some(listing.store.status.to_string()),
        file_counts: counts,
        indexing_status_before: index.indexing_status,
        indexing_status: status,
        files_changed: difference
            .corrections()
            .filter(|(row, file)| row.state != file.state)
            .count() as u64,
        files_missing: difference.diff.missing.len() as u64,
        files_uncertain: uncertain,
        files_unknown: difference.diff.unknown.len() as u64,
        gone: false,
        detached: false,
        unknown: None,
    };
    store_polls::record(db, index.id, &report).await?;
    Ok(report)
}

/// Start of the last indexing attempt, where a listing tells more of it than we know: of an index that we never built, or whose
/// files somebody has the provider index again.
fn attempt_began(index: &Index, listing: &StoreListing, status: IndexingStatus) -> Option<DateTime<Utc>> {
    let again = status == IndexingStatus::InProgress && index.indexing_status != IndexingStatus::InProgress;
    if index.indexed_at.is_some() && !again {
        return None;
    }
    let latest = listing.files.iter().filter_map(|file| file.created_at).max();
    Some(latest.or(listing.store.created_at).unwrap_or(listing.begun_at))
}

async fn failures(
    db: &mut MySqlConnection,
    index: &Index,
    listing: &StoreListing,
    left: &[String],
) -> Result<String, StepError> {
    let rows = attachments::list(db, index.id).await?;
    let members = composition::list(db, &index.domain_id, index.id).await?;
    let name = |file: &SeenFile| {
        let row = rows.iter().find(|row| row.external_file_id == file.file_id);
        let member = row.and_then(|row| {
            members
                .iter()
                .find(|member| member.desired.file_id == row.local_file_id)
        });
        member.map_or_else(|| file.file_id.clone(), |member| member.file_name.clone())
    };
    let failed: Vec<&SeenFile> = listing
        .files
        .iter()
        .filter(|file| matches!(file.state, AttachmentState::Failed | AttachmentState::Cancelled))
        .collect();
    let mut texts: Vec<String> = failed
        .iter()
        .take(NAMED_FAILURES)
        .map(|file| match &file.last_error {
            Some(error) => format!("{}: {} ({})", name(file), error.message, error.code),
            None => format!("{}: {}", name(file), file.state),
        })
        .collect();
    let gone = left.iter().map(|name| {
        format!("{name}: no longer in the vector store, build the index to attach it again ({NOT_IN_STORE})")
    });
    texts.extend(gone.take(NAMED_FAILURES.saturating_sub(texts.len())));
    let all = failed.len() + left.len();
    if all > texts.len() {
        texts.push(format!("and {} more", all - texts.len()));
    }
    Ok(format!(
        "{all} of {} files failed: {}",
        listing.files.len() + left.len(),
        texts.join("; ")
    ))
}
