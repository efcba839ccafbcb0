//! Step 5: what no longer belongs in the store leaves it, and what nobody needs any more is deleted at the provider.
//!
//! Reads composition and attachments. Writes attachments (`detaching` is the intent) and deletion intents. Calls detach,
//! delete of files and of stores. Safe to repeat because a detach or a deletion of something absent is a success.

use std::collections::HashSet;

use rag_db::attachments::{self, Attachment};
use rag_db::intents;
use rag_domain::{AttachmentId, AttachmentState};

use super::deletions::{self, Site};
use super::{Build, Scope, Step, abandoned};
use crate::halt::Halt;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let picture = build.picture().await?;
    let leaving: HashSet<AttachmentId> = picture.plan.detach.iter().map(|(id, _)| *id).collect();
    let leaving: Vec<&Attachment> = picture
        .attachments
        .iter()
        .filter(|row| row.state == AttachmentState::Detaching || leaving.contains(&row.id))
        .collect();
    detach(build, &leaving).await?;
    let site = Site::from(&build.scope);
    abandoned::sweep(build.context, site).await?;
    deletions::delete_retired(site, 1).await?;
    Ok(Step::Verify)
}

/// Takes files out of their store; their copies go too, once nothing refers to them.
pub(crate) async fn detach(scope: &Scope<'_>, rows: &[&Attachment]) -> Result<(), Halt> {
    mark_detaching(scope, rows).await?;
    for row in rows {
        scope.check_running()?;
        scope
            .provider
            .detach_file(&row.external_store_id, row.store_file_id())
            .await?;
        let mut tx = scope.write_progress().await?;
        attachments::delete_detached(&mut tx, row.id).await?;
        let owner = intents::Owner::File(row.local_file_id);
        intents::retire_file_for(&mut tx, &scope.provider_type, &row.external_file_id, owner).await?;
        tx.commit().await?;
        tracing::info!(external_file_id = row.external_file_id, "detached");
    }
    Ok(())
}

/// Takes files out of the store, to go in again: their time to be indexed begins anew, and the try is counted.
pub(super) async fn put_in_again(build: &Build<'_>, rows: &[&Attachment], why: &str) -> Result<(), Halt> {
    mark_detaching(build, rows).await?;
    for row in rows {
        build.check_running()?;
        build
            .provider
            .detach_file(&row.external_store_id, row.store_file_id())
            .await?;
        let mut tx = build.write().await?;
        attachments::mark_pending_again(&mut tx, row.id).await?;
        tx.commit().await?;
        tracing::warn!(
            file.id = %row.local_file_id,
            again = row.reattached + 1,
            error = row.last_error.as_deref().unwrap_or_default(),
            "{why}: taken out, to go in again"
        );
    }
    Ok(())
}

/// The intent, before any call.
async fn mark_detaching(scope: &Scope<'_>, rows: &[&Attachment]) -> Result<(), Halt> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut tx = scope.write().await?;
    attachments::mark_detaching(&mut tx, &ids).await?;
    Ok(tx.commit().await?)
}
