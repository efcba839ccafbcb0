//! What a cancelled build has handed to the provider: it is told to stop indexing it, where it can be told.
//!
//! Reads and writes attachments. Calls cancel of file batches and list of store files. Safe to repeat because a batch that is
//! cancelled already is cancelled again, or refused, to no harm. An error here is not repaired: the next build observes the store itself.

use std::collections::BTreeSet;

use rag_db::attachments::{self, Attachment};
use rag_db::indexes::{self, Index};
use rag_domain::{AttachmentState, StoreDiff};
use rag_providers::ErrorKind;

use super::state::Build;
use crate::lease::Scope;
use crate::observe::is_absent;
use crate::observe::listing::files_of;
use crate::observe::store_file::{SeenFile, write_seen};
use crate::step_error::StepError;

/// The build is cancelled: the provider is told, unless the whole store is about to go.
pub(crate) async fn stop_build_indexing(build: &Build<'_>) -> Result<(), StepError> {
    let mut db = build.context.pool.acquire().await?;
    let index = indexes::find(&mut db, &build.job.domain_id, build.job.index_id).await?;
    drop(db);
    if let Some(index) = index {
        stop_indexing(&build.scope, &index).await?;
    }
    Ok(())
}

/// Cancels the batches of an index whose files are still being indexed, and writes down what became of the files. Answers
/// how many batches were cancelled.
pub(crate) async fn stop_indexing(scope: &Scope<'_>, index: &Index) -> Result<usize, StepError> {
    let Some(store) = index.external_id.as_deref() else {
        return Ok(0);
    };
    if !scope.provider.capabilities().cancel_batch {
        return Ok(0);
    }
    let mut db = scope.context.pool.acquire().await?;
    let mut rows = attachments::list(&mut db, index.id).await?;
    drop(db);
    rows.retain(|row| row.state == AttachmentState::InProgress && row.external_store_id == store);
    let batches: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.external_batch_id.as_deref())
        .collect();
    let mut cancelled = Vec::new();
    for batch in batches {
        match scope.provider.cancel_file_batch(store, batch).await {
            Ok(_) => cancelled.push(batch.to_owned()),
            // It has ended by itself, or is gone.
            Err(error) if error.kind == ErrorKind::InvalidRequest || is_absent(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if cancelled.is_empty() {
        return Ok(0);
    }
    let listed = files_of(scope.provider.as_ref(), store).await?;
    let mut diff = StoreDiff::new(rows.iter().map(Into::into));
    let ended: Vec<(&Attachment, &SeenFile)> = listed
        .iter()
        .filter_map(|file| Some((diff.meet(&file.file_id, &file.store_file_id)?, file)))
        .filter(|(_, file)| file.state.is_settled())
        .filter_map(|(id, file)| Some((rows.iter().find(|row| row.id == id)?, file)))
        .collect();
    let mut tx = scope.write().await?;
    write_seen(&mut tx, &ended).await?;
    // What the provider has not got round to cancel is as good as cancelled: the next build puts it in anew.
    attachments::mark_cancelled(&mut tx, index.id, &cancelled).await?;
    tx.commit().await?;
    tracing::info!(
        batches = cancelled.len(),
        "the provider was told to stop indexing"
    );
    Ok(cancelled.len())
}
