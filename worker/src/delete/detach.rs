//! Taking files out of a store: for good, or to attach them again.
//!
//! Writes attachments (`detaching` is the intent) and deletion intents. Calls detach. Safe to repeat because a detach of
//! something absent is a success.

use rag_db::attachments::{self, Attachment};
use rag_db::intents;

use crate::lease::Scope;
use crate::step_error::StepError;

/// Takes files out of their store; their copies go too, once nothing refers to them.
pub(crate) async fn detach(scope: &Scope<'_>, rows: &[&Attachment]) -> Result<(), StepError> {
    mark_detaching(scope, rows).await?;
    for row in rows {
        call(scope, row).await?;
        let mut tx = scope.write_progress().await?;
        attachments::delete_detached(&mut tx, row.id).await?;
        let owner = intents::Owner::File(row.local_file_id);
        intents::retire_file_for(&mut tx, &scope.provider_type, &row.external_file_id, owner).await?;
        tx.commit().await?;
        tracing::info!(external_file_id = row.external_file_id, "detached");
    }
    Ok(())
}

/// Takes files out of the store, to be attached again: their indexing time begins anew, and the try is counted.
pub(crate) async fn detach_to_reattach(
    scope: &Scope<'_>,
    rows: &[&Attachment],
    why: &str,
) -> Result<(), StepError> {
    mark_detaching(scope, rows).await?;
    for row in rows {
        call(scope, row).await?;
        let mut tx = scope.write().await?;
        attachments::mark_pending_again(&mut tx, row.id).await?;
        tx.commit().await?;
        tracing::warn!(
            file.id = %row.local_file_id,
            again = row.reattached + 1,
            error = row.last_error.as_deref().unwrap_or_default(),
            "{why}: detached, to be attached again"
        );
    }
    Ok(())
}

async fn call(scope: &Scope<'_>, row: &Attachment) -> Result<(), StepError> {
    scope.check_running()?;
    let store = &row.external_store_id;
    scope.provider.detach_file(store, row.store_file_id()).await?;
    Ok(())
}

/// The intent, before any call.
async fn mark_detaching(scope: &Scope<'_>, rows: &[&Attachment]) -> Result<(), StepError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut tx = scope.write().await?;
    attachments::mark_detaching(&mut tx, &ids).await?;
    Ok(tx.commit().await?)
}
