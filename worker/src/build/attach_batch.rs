//! Attaching many files with one call, and holding the answer against what was sent.
//!
//! Writes attachments. Calls create of file batches, and list of store files where an answer leaves files out. A batch that is
//! refused without effect goes on as single attaches.

use std::collections::HashSet;

use rag_db::attachments::{self, Attachment};
use rag_domain::{AttachMethod, AttachmentId, AttachmentState, StoreDiff};
use rag_providers::{Ability, Disposition, Effect, ErrorKind, FileBatch, ProviderError};

use super::attach_permit::declare;
use super::attach_single::{self, patience_after_timeout, request, warn_unless_applied};
use super::state::Build;
use super::{absent_files, store_check};
use crate::observe::batches::Batches;
use crate::observe::is_absent;
use crate::observe::listing::Pages;
use crate::step_error::{StepError, chain};

/// Attaches these files with one call.
pub(super) async fn run(
    build: &Build<'_>,
    way: AttachMethod,
    batch: &[&Attachment],
) -> Result<(), StepError> {
    let ids: Vec<_> = batch.iter().map(|row| row.id).collect();
    declare(build, &ids, way, build.observer().apart()).await?;
    let files = batch.iter().map(|row| request(build, row)).collect();
    match build.provider.create_file_batch(build.store_id()?, files).await {
        Ok(answer) => {
            let mut tx = build.write_progress().await?;
            let applied = answer.chunking_strategy_applied;
            attachments::mark_in_progress(&mut tx, &ids, Some(&answer.id), applied).await?;
            tx.commit().await?;
            warn_unless_applied(answer.chunking_strategy_applied, ids.len());
            tracing::info!(
                files = ids.len(),
                way = way.as_str(),
                batch = answer.id,
                "attached"
            );
            check_answer(build, &ids, &answer).await
        }
        Err(error) if error.effect == Effect::None => {
            let mut tx = build.write().await?;
            attachments::mark_pending(&mut tx, &ids).await?;
            tx.commit().await?;
            refused_batch(build, batch, error).await
        }
        Err(error) if error.kind == ErrorKind::Timeout => {
            let bytes = batch.iter().map(|row| row.size_bytes).sum();
            let patience = patience_after_timeout(build, way, bytes);
            let mut tx = build.write().await?;
            for id in &ids {
                attachments::wait_longer(&mut tx, *id, patience).await?;
            }
            build.doubt_store(&mut tx).await?;
            tracing::warn!(files = ids.len(), %error, "a batch was not answered in time; the provider is polled for it");
            Ok(tx.commit().await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Holds the answer against what was sent. A batch that has ended already, and counts fewer files than were in it, took only
/// some of them, or none: those that neither it nor the store shows go in by the next way.
async fn check_answer(build: &Build<'_>, ids: &[AttachmentId], answer: &FileBatch) -> Result<(), StepError> {
    let counts_all = |batch: &FileBatch| batch.file_counts.total >= ids.len() as u64;
    if counts_all(answer) || !answer.status.is_terminal() {
        return Ok(());
    }
    let store = build.store_id()?;
    let mut tx = build.write().await?;
    build.doubt_store(&mut tx).await?;
    let mut rows = attachments::list_some(&mut tx, build.index.id, ids).await?;
    tx.commit().await?;
    rows.retain(|row| row.state == AttachmentState::InProgress);
    let batches = Batches::of(&build.observer(), store, &rows).await?;
    let is_over = |row: &&Attachment| {
        batches
            .find(row)
            .is_none_or(|batch| batch.status.is_terminal() && !counts_all(batch))
    };
    let (mut diff, mut pages) = (
        StoreDiff::new(rows.iter().filter(is_over).map(Into::into)),
        Pages::of_store(build.provider.as_ref(), store),
    );
    loop {
        match pages.next().await {
            Ok(Some(page)) => {
                for file in &page {
                    diff.meet(&file.file_id, &file.store_file_id);
                }
            }
            Ok(None) => break,
            // Without a listing nothing is proven here; the polls go on.
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    let missing: HashSet<AttachmentId> = diff.missing().into_iter().collect();
    let missing: Vec<&Attachment> = rows.iter().filter(|row| missing.contains(&row.id)).collect();
    absent_files::attach_by_next_method(build, &missing, &batches).await
}

/// A batch that was refused without effect.
async fn refused_batch(
    build: &Build<'_>,
    batch: &[&Attachment],
    error: ProviderError,
) -> Result<(), StepError> {
    if error.kind == ErrorKind::Unsupported {
        // The server does not know the route. It is the same server that has the store: then it has no batches.
        store_check::check(build, build.store_id()?).await?;
        let how = format!("the route was refused ({error}) at a server that has the store");
        return build.observer().learn(Ability::FileBatches, false, &how).await;
    }
    if !error.is_absent() && error.disposition() != Disposition::Fail {
        return Err(error.into());
    }
    // One bad file spoils a batch: one by one, the others get in and the bad one gets its own error. Files that are attached
    // to the store already spoil it too at some providers, and count as attached one by one.
    tracing::warn!(
        files = batch.len(),
        error = chain(&error),
        "the provider refused the batch"
    );
    attach_single::run(build, batch).await
}
