//! An index whose store is gone at the provider: it gives up the store and the copies of its files; the index, its
//! links and its files stay, and the next build makes everything anew. A build that comes before the sync makes nothing: it fails
//! (`build::store_check`).
//!
//! The copies themselves, if they outlived the store, are left at the provider: a sync deletes nothing there.

use std::time::Duration;

use chrono::Utc;
use rag_db::indexes::{self, Index};
use rag_db::{attachments, imports, store_polls};
use rag_domain::{AttachmentState, IndexingStatus};
use sqlx::MySqlConnection;

use crate::provider_payload::forget_payload;
use crate::step_error::StepError;

/// Writes it. The caller holds the lock of the index's row, and has seen that the store is gone. Answers how many copies
/// were given up.
pub(crate) async fn detach(db: &mut MySqlConnection, index: &Index, store: &str) -> Result<u64, StepError> {
    indexes::clear_external_id(db, index.id, store).await?;
    attachments::forget_store(db, store).await?;
    let copies = imports::delete_copies_of(db, &index.provider_type, index.id).await?;
    let error =
        format!("vector store {store} no longer exists at the provider; build the index to make it anew");
    indexes::mark_seen(db, index.id, IndexingStatus::NotIndexed, Some(&error), None).await?;
    forget_payload(db, index).await?;
    store_polls::forget(db, index.id).await?;
    tracing::warn!(index.id = %index.id, store, copies, "the store is gone: the index is detached from it");
    Ok(copies)
}

/// Whether a store that the provider does not know may merely not be visible yet: made a moment ago, and never seen.
pub(crate) async fn may_be_young(
    db: &mut MySqlConnection,
    index: &Index,
    grace: Duration,
) -> Result<bool, StepError> {
    let age = (Utc::now() - index.updated_at).to_std().unwrap_or_default();
    if age >= grace || index.indexing_status == IndexingStatus::Done {
        return Ok(false);
    }
    let rows = attachments::list(db, index.id).await?;
    Ok(!rows.iter().any(|row| row.state == AttachmentState::Completed))
}
