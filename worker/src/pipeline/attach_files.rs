//! Step 3: every file with a current copy is attached to the store, each with its own chunking strategy.
//!
//! Reads composition and attachments. Writes attachments: `pending` (wanted), `attaching` (the intent, with the way in and how
//! long the answer may still come), `in_progress` (accepted). Calls detach (for files that go in anew under the same id),
//! attach and create of file batches, and what `poll` calls (after an unknown outcome, and to hold an answer against what was
//! sent). Safe to repeat because what is `attaching` at the start is first looked for, and attaching a file twice is harmless.
//!
//! The ways in, from one call to many, are in [`rag_domain::WayIn`]; what the connection is known not to take is left out.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use rag_db::attachments::{self, Attachment, NewAttachment, Observation};
use rag_db::uploads;
use rag_domain::{
    self as way_in, AttachmentId, AttachmentState, Entrances, FileId, StoreDiff, Waiting, WayIn,
};
use rag_providers::{
    Ability, AttachFile, Attributes, Disposition, Effect, ErrorKind, FileBatch, ProviderError,
    StoreFileStatus,
};

use super::{Build, Picture, Step, await_indexing, detach_files, ensure_vector_store, poll};
use crate::halt::{Halt, chain};
use crate::observe::batches::Batches;
use crate::observe::listing::Pages;
use crate::observe::{age, is_absent};

/// Batches of at most this many, whatever the provider takes: progress stays visible, and an unknown outcome small.
const BATCH_FILES: usize = 500;
/// Single attaches on the wire at once.
const SINGLES_AT_ONCE: usize = 4;
/// What a single attach may take: so long, and a second more for each of these bytes.
const ATTACH_TIME: Duration = Duration::from_secs(90);
const ATTACH_BYTES_PER_SECOND: u64 = 8 * 1024;
const LONGEST_ATTACH: Duration = Duration::from_hours(1);
/// An answer that took so long and finds the file indexed has waited for that.
const SLOW_ANSWER: Duration = Duration::from_secs(2);
const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let picture = build.picture().await?;
    make_room(build, &picture).await?;
    want(build).await?;
    // What was asked for without hearing the answer is in the store, or may still come, or can be asked for again.
    if !in_state(build, AttachmentState::Attaching).await?.is_empty() {
        await_indexing::look_once(build).await?;
    }
    loop {
        let pending = wanted(build).await?;
        if pending.is_empty() {
            return Ok(Step::AwaitIndexing);
        }
        build.check_running()?;
        wait_for_a_place(build).await?;
        attach_next(build, &pending).await?;
        build.report(&build.picture().await?).await?;
    }
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

/// What waits to go in. What was to go in and is to go out by now (unlinked, or changed) stays where it is: it would be searchable
/// for a while.
async fn wanted(build: &Build<'_>) -> Result<Vec<Attachment>, Halt> {
    let mut picture = build.picture().await?;
    let leaving: HashSet<AttachmentId> = picture.plan.detach.iter().map(|(id, _)| *id).collect();
    picture
        .attachments
        .retain(|row| row.state == AttachmentState::Pending && !leaving.contains(&row.id));
    Ok(picture.attachments)
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
/// `patience`: see [`attachments::mark_attaching`].
async fn declare(
    build: &Build<'_>,
    ids: &[AttachmentId],
    way: WayIn,
    patience: Duration,
) -> Result<(), Halt> {
    let mut tx = build.write().await?;
    if let Some(most) = build.provider.capabilities().max_concurrent_indexing
        && !attachments::find_indexing_place(&mut tx, &build.index.provider_type, most).await?
    {
        return Err(no_place(build, most));
    }
    attachments::mark_attaching(&mut tx, ids, way, patience).await?;
    Ok(tx.commit().await?)
}

async fn operations(build: &Build<'_>) -> Result<u64, Halt> {
    let mut db = build.context.pool.acquire().await?;
    Ok(attachments::count_indexing_operations(&mut db, &build.index.provider_type).await?)
}

/// Carries out the next calls for what waits: one batch, or what is left as single attaches, some at a time.
async fn attach_next(build: &Build<'_>, pending: &[Attachment]) -> Result<(), Halt> {
    let capabilities = build.provider.capabilities();
    let entrances = Entrances {
        batches: build.learned.holds(Ability::FileBatches) != Some(false),
        batch_files: capabilities.batch_per_file_strategy
            && build.learned.holds(Ability::BatchFiles) != Some(false),
    };
    let waiting: Vec<Waiting> = pending
        .iter()
        .map(|row| Waiting {
            strategy: row.chunking_strategy,
            next_way: row.next_method,
        })
        .collect();
    let calls = way_in::calls(&waiting, entrances, capabilities.max_batch_files.min(BATCH_FILES));
    let rows = |call: &way_in::Call| {
        call.files
            .iter()
            .filter_map(|place| pending.get(*place))
            .collect::<Vec<_>>()
    };
    // After each batch the rest is planned anew: the answer may have taught something.
    if let Some(batch) = calls.iter().find(|call| call.way != WayIn::Single) {
        return attach_batch(build, batch.way, &rows(batch)).await;
    }
    let singles: Vec<&Attachment> = calls.iter().flat_map(rows).collect();
    attach_singles(build, &singles).await
}

/// After the first reason to stop nothing new begins, but what has begun is waited for.
async fn attach_singles(build: &Build<'_>, rows: &[&Attachment]) -> Result<(), Halt> {
    // Where only so much is indexed at once, there is a place for one at a time.
    let limited = build.provider.capabilities().max_concurrent_indexing.is_some();
    let at_once = if limited { 1 } else { SINGLES_AT_ONCE };
    let stopping = AtomicBool::new(false);
    let calls: Vec<_> = rows
        .iter()
        .map(|row| {
            let stopping = &stopping;
            async move {
                if stopping.load(Ordering::Relaxed) {
                    return Ok(());
                }
                build.check_running()?;
                wait_for_a_place(build).await?;
                attach_one(build, row).await
            }
            .boxed()
        })
        .collect();
    let mut calls = futures::stream::iter(calls).buffer_unordered(at_once);
    let mut halted = None;
    while let Some(result) = calls.next().await {
        if let Err(halt) = result {
            stopping.store(true, Ordering::Relaxed);
            halted.get_or_insert(halt);
        }
    }
    halted.map_or(Ok(()), Err)
}

async fn attach_batch(build: &Build<'_>, way: WayIn, batch: &[&Attachment]) -> Result<(), Halt> {
    let ids: Vec<_> = batch.iter().map(|row| row.id).collect();
    declare(build, &ids, way, build.observer().apart()).await?;
    let files = batch.iter().map(|row| request(build, row)).collect();
    match build.provider.create_file_batch(build.store_id()?, files).await {
        Ok(answer) => {
            let mut tx = build.write_progress().await?;
            attachments::mark_in_progress(&mut tx, &ids, Some(&answer.id)).await?;
            attachments::set_strategy_applied(&mut tx, &ids, answer.chunking_strategy_applied).await?;
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
            let (mut tx, patience) = (
                build.write().await?,
                build.context.settings.build_indexing_timeout,
            );
            for id in &ids {
                attachments::wait_longer(&mut tx, *id, patience).await?;
            }
            tracing::warn!(files = ids.len(), %error, "a batch was not answered in time; it is looked for");
            Ok(tx.commit().await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Holds the answer against what was sent. A batch that has ended already, and counts fewer files than were in it, took only
/// some of them, or none: those that neither it nor the store shows go in by the next way.
async fn check_answer(build: &Build<'_>, ids: &[AttachmentId], answer: &FileBatch) -> Result<(), Halt> {
    let counts_all = |batch: &FileBatch| batch.file_counts.total >= ids.len() as u64;
    if counts_all(answer) || !answer.status.is_terminal() {
        return Ok(());
    }
    let store = build.store_id()?;
    let mut rows = in_state(build, AttachmentState::InProgress).await?;
    rows.retain(|row| ids.contains(&row.id));
    let batches = Batches::of(&build.observer(), store, &rows).await?;
    let is_over = |row: &&Attachment| {
        batches
            .find(row)
            .is_none_or(|batch| batch.status.is_terminal() && !counts_all(batch))
    };
    let (mut diff, mut pages) = (
        StoreDiff::new(rows.iter().filter(is_over).map(Into::into)),
        Pages::of(build.provider.as_ref(), store),
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
    poll::did_not_come_in(build, &missing, &batches).await
}

/// A batch that was refused without effect.
async fn refused_batch(build: &Build<'_>, batch: &[&Attachment], error: ProviderError) -> Result<(), Halt> {
    if error.kind == ErrorKind::Unsupported {
        // The server does not know the route. It is the same server that has the store: then it has no batches.
        ensure_vector_store::check(build, build.store_id()?).await?;
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
    attach_singles(build, batch).await
}

async fn attach_one(build: &Build<'_>, row: &Attachment) -> Result<(), Halt> {
    let time = attach_time(row.size_bytes);
    // A server that answers when the file is indexed may be at it long after this worker.
    let patience = if build.learned.holds(Ability::AttachReturnsEarly) == Some(false) {
        time.max(build.observer().apart())
    } else {
        build.observer().apart()
    };
    declare(build, &[row.id], WayIn::Single, patience).await?;
    let file = AttachFile {
        time: Some(time),
        ..request(build, row)
    };
    let began = Instant::now();
    match build.provider.attach_file(build.store_id()?, file).await {
        Ok(answer) => {
            learn_from(build, &answer.file.status, began.elapsed()).await?;
            let applied = answer.chunking_strategy_applied;
            let mut tx = build.write_progress().await?;
            attachments::mark_in_progress(&mut tx, &[row.id], None).await?;
            attachments::set_strategy_applied(&mut tx, &[row.id], applied).await?;
            tx.commit().await?;
            poll::write_one(build, row, &answer.file.into()).await?;
            warn_unless_applied(applied, 1);
            Ok(())
        }
        Err(error) if error.effect == Effect::None => refused(build, row, error).await,
        Err(error) if error.kind == ErrorKind::Timeout => {
            let mut tx = build.write().await?;
            attachments::wait_longer(&mut tx, row.id, build.context.settings.build_indexing_timeout).await?;
            tracing::warn!(file.id = %row.local_file_id, %error, "an attach was not answered in time; it is looked for");
            Ok(tx.commit().await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// How long a server may take that answers when a file of this size is indexed.
fn attach_time(size_bytes: u64) -> Duration {
    let for_its_size = Duration::from_secs(size_bytes / ATTACH_BYTES_PER_SECOND);
    (ATTACH_TIME + for_its_size).min(LONGEST_ATTACH)
}

/// An answer that says `in_progress` came early; one that took its time and says that the file is done did not.
async fn learn_from(build: &Build<'_>, status: &StoreFileStatus, took: Duration) -> Result<(), Halt> {
    let (holds, how) = match status {
        StoreFileStatus::InProgress => (true, "an attach was answered while the file was being indexed"),
        _ if status.is_terminal() && took >= SLOW_ANSWER => {
            (false, "an attach was answered when the file was indexed")
        }
        _ => return Ok(()),
    };
    build
        .observer()
        .learn(Ability::AttachReturnsEarly, holds, how)
        .await
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
    let is_absent = error.is_absent();
    if is_absent && let Err(halt) = ensure_vector_store::check(build, build.store_id()?).await {
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
    let settling = is_absent && age(uploaded_at) < grace;
    if !settling && (is_absent || error.disposition() == Disposition::Fail) {
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
        if is_absent && uploaded_at < build.started_at {
            // Deleted behind our back: this build's next round uploads it again. A copy that this very build made, and that
            // the provider still does not show, has failed: it would be made again without end.
            uploads::mark_lost(&mut tx, provider, &row.external_file_id).await?;
        }
        return Ok(tx.commit().await?);
    }
    attachments::mark_pending(&mut tx, &[row.id]).await?;
    tx.commit().await?;
    if is_absent {
        return Err(Halt::snooze(
            NOT_VISIBLE_YET,
            "the provider does not show an uploaded file yet",
        ));
    }
    Err(error.into())
}

/// What of the attach is the file's own.
fn request(build: &Build<'_>, row: &Attachment) -> AttachFile {
    let mut attributes = Attributes::default();
    // Only where search could not be mapped back otherwise.
    if build.learned.holds(Ability::SearchFileIds) == Some(false) {
        attributes.insert("file_id".to_owned(), row.external_file_id.clone().into());
    }
    AttachFile {
        file_id: row.external_file_id.clone(),
        attributes,
        chunking_strategy: row.chunking_strategy,
        time: None,
    }
}
