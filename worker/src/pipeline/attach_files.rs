//! Step 3: every file with a current copy hangs in the store, each with its own chunking strategy.
//!
//! Reads composition and attachments. Writes attachments: `pending` (wanted), `attaching` (the intent), `in_progress`
//! (accepted). Calls detach (for files that go in anew under the same id), list of store files (after an unknown outcome),
//! attach and create of file batches. Safe to repeat because what is `attaching` at the start is first looked for in a
//! complete listing, and attaching a file twice is harmless.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::Utc;
use rag_db::attachments::{self, Attachment, NewAttachment, Observation};
use rag_db::uploads;
use rag_domain::{AttachmentId, AttachmentState, ChunkingStrategy, FileId};
use rag_providers::{AttachFile, Disposition, Effect, ErrorKind, ProviderError};

use super::await_indexing::Listed;
use super::ensure_vector_store;
use super::{Build, Picture, Step, await_indexing, detach_files};
use crate::halt::{Halt, chain};

/// Batches of at most this many, whatever the provider takes: progress stays visible, and an unknown outcome small.
const BATCH_FILES: usize = 500;
const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let picture = build.picture().await?;
    make_room(build, &picture).await?;
    want(build).await?;
    resolve_unknown(build).await?;
    let mut pending = in_state(build, AttachmentState::Pending).await?;
    while !pending.is_empty() {
        build.check_running()?;
        wait_for_a_place(build).await?;
        let batch = next_batch(build, &mut pending);
        attach(build, &batch).await?;
        build.report(&build.picture().await?).await?;
    }
    Ok(Step::AwaitIndexing)
}

/// A provider knows a file in a store by the file's id: what goes in again under the same id has to come out first.
async fn make_room(build: &Build<'_>, picture: &Picture) -> Result<(), Halt> {
    let wanted: HashSet<&str> = picture
        .plan
        .attach
        .iter()
        .filter_map(|id| picture.current_copy(*id))
        .collect();
    // What is on its way back in after it was not indexed in time is not in the way of itself.
    let in_the_way: Vec<&Attachment> = picture
        .attachments
        .iter()
        .filter(|row| wanted.contains(row.external_file_id.as_str()))
        .collect();
    detach_files::detach(build, &in_the_way).await
}

/// Writes down what is to hang in the store.
async fn want(build: &Build<'_>) -> Result<(), Halt> {
    let store = build.store_id()?;
    let mut tx = build.write().await?;
    let picture = build.picture_in(&mut tx).await?;
    // A strategy that changed since room was made: the file goes out in this round, and in again in the next.
    let in_the_way: HashSet<&str> = picture
        .attachments
        .iter()
        .map(|row| row.external_file_id.as_str())
        .collect();
    // A copy that is replaced from now on waits for us: either it sees these rows and stays until they are gone, or it has
    // been replaced already, and the next round attaches the new one.
    let current: HashMap<FileId, String> =
        uploads::lock_current(&mut tx, &build.index.provider_type, &picture.plan.attach)
            .await?
            .into_iter()
            .collect();
    let new: Vec<NewAttachment<'_>> = picture
        .plan
        .attach
        .iter()
        .filter_map(|id| Some((*id, picture.current_copy(*id)?, picture.member(*id)?)))
        .filter(|(_, external_file_id, _)| !in_the_way.contains(external_file_id))
        .filter(|(id, external_file_id, _)| {
            current.get(id).is_some_and(|current| current == external_file_id)
        })
        .map(|(id, external_file_id, member)| NewAttachment {
            index_id: build.index.id,
            external_store_id: store,
            local_file_id: id,
            external_file_id,
            content_sha256: &member.desired.content_sha256,
            size_bytes: member.desired.size_bytes,
            chunking_strategy: member.desired.strategy,
        })
        .collect();
    attachments::insert_many(&mut tx, &new).await?;
    Ok(tx.commit().await?)
}

/// What an earlier claim asked for without hearing the answer is either in the store, or can be asked for again.
async fn resolve_unknown(build: &Build<'_>) -> Result<(), Halt> {
    let unknown = in_state(build, AttachmentState::Attaching).await?;
    if unknown.is_empty() {
        return Ok(());
    }
    let listed = ensure_vector_store::list_files(build).await?;
    let mut tx = build.write().await?;
    let there = Listed::new(&listed);
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for row in &unknown {
        match there.find(row) {
            Some(file) => found.push((row, file)),
            None => absent.push(row.id),
        }
    }
    if !found.is_empty() {
        build.claim.progress(&mut tx).await?;
    }
    await_indexing::observe_all(build, &mut tx, &found).await?;
    attachments::mark_pending(&mut tx, &absent).await?;
    tracing::info!(
        there = unknown.len() - absent.len(),
        absent = absent.len(),
        "looked for attachments of an earlier attempt"
    );
    Ok(tx.commit().await?)
}

async fn in_state(build: &Build<'_>, state: AttachmentState) -> Result<Vec<Attachment>, Halt> {
    let mut db = build.context.pool.acquire().await?;
    let mut rows = attachments::list(&mut db, build.index.id).await?;
    rows.retain(|row| row.state == state);
    Ok(rows)
}

/// Some providers index only so much at once, over all stores of the connection; an attach beyond that would be refused.
async fn wait_for_a_place(build: &Build<'_>) -> Result<(), Halt> {
    let Some(most) = build.provider.capabilities().max_concurrent_indexing else {
        return Ok(());
    };
    if operations(build).await? < u64::from(most) {
        return Ok(());
    }
    // Other builds look after theirs in their own time.
    await_indexing::look_once(build).await?;
    if operations(build).await? < u64::from(most) {
        return Ok(());
    }
    Err(no_place(build, most))
}

fn no_place(build: &Build<'_>, most: u32) -> Halt {
    let pause = build.context.settings.build_poll_min;
    Halt::snooze(pause, format!("the provider indexes {most} batches at once"))
}

/// The intent, if there is a place for it: of those who found one a moment ago, not more get one than there are.
async fn declare(build: &Build<'_>, ids: &[AttachmentId]) -> Result<(), Halt> {
    let mut tx = build.write().await?;
    if let Some(most) = build.provider.capabilities().max_concurrent_indexing
        && !attachments::find_indexing_place(&mut tx, &build.index.provider_type, most).await?
    {
        return Err(no_place(build, most));
    }
    attachments::mark_attaching(&mut tx, ids).await?;
    Ok(tx.commit().await?)
}

async fn operations(build: &Build<'_>) -> Result<u64, Halt> {
    let mut db = build.context.pool.acquire().await?;
    Ok(attachments::count_indexing_operations(&mut db, &build.index.provider_type).await?)
}

/// Takes the next files that can go in with one call: all alike where the provider can't tell them apart in a batch.
fn next_batch(build: &Build<'_>, pending: &mut Vec<Attachment>) -> Vec<Attachment> {
    let capabilities = build.provider.capabilities();
    let most = capabilities.max_batch_files.clamp(1, BATCH_FILES);
    let strategy = pending.first().and_then(|row| row.chunking_strategy);
    let fits = |row: &Attachment| capabilities.batch_per_file_strategy || row.chunking_strategy == strategy;
    let mut batch = Vec::new();
    let mut rest = Vec::new();
    for row in pending.drain(..) {
        if batch.len() < most && fits(&row) {
            batch.push(row);
        } else {
            rest.push(row);
        }
    }
    *pending = rest;
    batch
}

async fn attach(build: &Build<'_>, batch: &[Attachment]) -> Result<(), Halt> {
    if let [row] = batch {
        return attach_one(build, row).await;
    }
    let ids: Vec<_> = batch.iter().map(|row| row.id).collect();
    declare(build, &ids).await?;
    let files = batch
        .iter()
        .map(|row| request(&row.external_file_id, row.chunking_strategy))
        .collect();
    match build.provider.create_file_batch(build.store_id()?, files).await {
        Ok(answer) => {
            let mut tx = build.write_progress().await?;
            attachments::mark_in_progress(&mut tx, &ids, Some(&answer.id)).await?;
            attachments::set_strategy_applied(&mut tx, &ids, answer.chunking_strategy_applied).await?;
            tx.commit().await?;
            warn_unless_applied(answer.chunking_strategy_applied, ids.len());
            tracing::info!(files = ids.len(), batch = answer.id, "attached");
            Ok(())
        }
        Err(error) if error.effect == Effect::None => {
            let mut tx = build.write().await?;
            attachments::mark_pending(&mut tx, &ids).await?;
            tx.commit().await?;
            if error.disposition() != Disposition::Fail {
                return Err(error.into());
            }
            // One bad file spoils a batch: one by one, the others get in and the bad one gets its own error. Files that hang
            // in the store already spoil it too at some providers, and count as attached one by one.
            tracing::warn!(
                files = ids.len(),
                error = chain(&error),
                "the provider refused the batch"
            );
            for row in batch {
                build.check_running()?;
                attach_one(build, row).await?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn attach_one(build: &Build<'_>, row: &Attachment) -> Result<(), Halt> {
    declare(build, &[row.id]).await?;
    let file = request(&row.external_file_id, row.chunking_strategy);
    match build.provider.attach_file(build.store_id()?, file).await {
        Ok(answer) => {
            let mut tx = build.write_progress().await?;
            attachments::mark_in_progress(&mut tx, &[row.id], None).await?;
            attachments::set_strategy_applied(&mut tx, &[row.id], answer.chunking_strategy_applied).await?;
            await_indexing::observe_all(build, &mut tx, &[(row, &answer.file)]).await?;
            tx.commit().await?;
            warn_unless_applied(answer.chunking_strategy_applied, 1);
            Ok(())
        }
        Err(error) if error.effect == Effect::None => refused(build, row, error).await,
        Err(error) => Err(error.into()),
    }
}

fn warn_unless_applied(applied: bool, files: usize) {
    if !applied {
        tracing::warn!(
            files,
            "the provider attached files without their chunking strategy"
        );
    }
}

/// The provider refused one file, and nothing happened.
async fn refused(build: &Build<'_>, row: &Attachment, error: ProviderError) -> Result<(), Halt> {
    let provider = &build.index.provider_type;
    // "Not found" may be about the store as well. Then no file is lost, and uploading it again would help nobody.
    if error.kind == ErrorKind::NotFound
        && let Err(halt) = ensure_vector_store::check(build, build.store_id()?).await
    {
        let mut tx = build.write().await?;
        attachments::mark_pending(&mut tx, &[row.id]).await?;
        tx.commit().await?;
        return Err(halt);
    }
    let mut tx = build.write().await?;
    let copy = uploads::find(&mut tx, provider, row.local_file_id).await?;
    let uploaded_at = copy
        .and_then(|copy| copy.external_uploaded_at)
        .unwrap_or(row.created_at);
    let grace = build.provider.capabilities().settle_grace;
    let disposition = error.disposition_for_new(uploaded_at, Utc::now(), grace);
    if disposition == Disposition::Fail {
        let seen = Observation {
            state: AttachmentState::Failed,
            external_store_file_id: None,
            reported_strategy: None,
            strategy_applied: None,
            usage_bytes: None,
            error_code: Some(error.kind.as_str()),
            last_error: Some(&error.to_string()),
        };
        attachments::observe(&mut tx, row.id, &seen).await?;
        if error.kind == ErrorKind::NotFound && uploaded_at < build.started_at {
            // Deleted behind our back: this build's next round uploads it again. A copy that this very build made, and that
            // the provider still does not show, has failed: it would be made again without end.
            uploads::mark_lost(&mut tx, provider, &row.external_file_id).await?;
        }
        return Ok(tx.commit().await?);
    }
    attachments::mark_pending(&mut tx, &[row.id]).await?;
    tx.commit().await?;
    if error.kind == ErrorKind::NotFound {
        return Err(Halt::snooze(
            NOT_VISIBLE_YET,
            "the provider does not show an uploaded file yet",
        ));
    }
    Err(error.into())
}

fn request(external_file_id: &str, strategy: Option<ChunkingStrategy>) -> AttachFile {
    AttachFile {
        file_id: external_file_id.to_owned(),
        attributes: rag_providers::Attributes::default(),
        chunking_strategy: strategy,
    }
}
