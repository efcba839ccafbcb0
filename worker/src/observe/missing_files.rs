//! Files that the listing of a store lacks: whether they have left it.
//!
//! The first check only notes since when each is missing; a second one, some time later, asks for each by its id as well. Until
//! then, and where the provider finds nothing by its id, nothing is known, and no row is touched.

use std::collections::HashSet;
use std::time::Duration;

use rag_db::attachments::{self, Attachment};
use rag_db::indexes;
use rag_domain::{AttachmentId, AttachmentState, IndexId, StoreDiff};

use super::batches::Batches;
use super::listing::StoreListing;
use super::presence::{self, Direct};
use super::{Observer, age};
use crate::step_error::StepError;

/// What is known of the files that a listing lacks.
#[derive(Debug)]
pub(crate) enum Absent {
    CheckAgain {
        after: Duration,
        files: usize,
    },
    /// These have left; of so many others it is not known.
    Known {
        left: HashSet<AttachmentId>,
        uncertain: u64,
    },
}

/// `rows`: those of the index. The caller holds no transaction. An expired store's listing says nothing of its files.
pub(crate) async fn judge(
    observer: &Observer<'_>,
    index: IndexId,
    listing: &StoreListing,
    rows: &[Attachment],
) -> Result<Absent, StepError> {
    if listing.has_expired() {
        return Ok(Absent::Known {
            left: HashSet::new(),
            uncertain: 0,
        });
    }
    let store = listing.store.id.as_str();
    let grace = observer.provider.capabilities().settle_grace;
    let of_store = rows.iter().filter(|row| row.external_store_id == store);
    let mut diff = StoreDiff::new(of_store.map(Into::into));
    for file in &listing.files {
        diff.meet(&file.file_id, &file.store_file_id);
    }
    let missing: HashSet<AttachmentId> = diff.missing().into_iter().collect();
    // What was just accepted may not be shown yet.
    let not_visible_yet = |row: &Attachment| {
        row.state == AttachmentState::InProgress && age(row.attached_at.unwrap_or(row.created_at)) <= grace
    };
    let mut missing: Vec<&Attachment> = rows
        .iter()
        .filter(|row| missing.contains(&row.id) && !not_visible_yet(row))
        .collect();
    if !missing.is_empty() {
        let batches = Batches::of(observer, store, missing.iter().copied()).await?;
        missing.retain(|row| row.state == AttachmentState::Completed || !batches.is_running(row));
    }
    let apart = observer.apart();
    let left = missing
        .iter()
        .map(|row| row.missed_at.map_or(apart, |at| apart.saturating_sub(age(at))))
        .max();
    if let Some(after) = left.filter(|left| !left.is_zero()) {
        let ids: Vec<_> = missing.iter().map(|row| row.id).collect();
        let mut tx = observer.context.pool.begin().await?;
        indexes::lock_any(&mut tx, index).await?;
        observer.claim.fence(&mut tx).await?;
        attachments::mark_missed(&mut tx, &ids).await?;
        tx.commit().await?;
        let files = missing.len();
        return Ok(Absent::CheckAgain { after, files });
    }
    let control = listing.files.first().map(|file| file.store_file_id.as_str());
    let answers = presence::of_files(observer, store, &missing, control).await?;
    let asked = answers.len();
    let absent = answers
        .into_iter()
        .filter(|(_, answer)| matches!(answer, Direct::Absent));
    let left: HashSet<_> = absent.map(|(id, _)| id).collect();
    let uncertain = (asked - left.len()) as u64;
    Ok(Absent::Known { left, uncertain })
}
