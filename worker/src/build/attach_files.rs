//! Step 3: every file with a current copy is attached to the store, each with its own chunking strategy.
//!
//! It runs beside the uploads, fed by the rows that they write ([`alongside`]), and by itself, where files are to be attached
//! again ([`run`]).
//!
//! Reads composition and attachments. Writes attachments: `pending` (wanted), `attaching` (the intent, with the method and how
//! long the answer may still come), `in_progress` (accepted). Calls detach (for files that are attached anew under the same id),
//! attach and create of file batches, and what `poll` calls (after an unknown outcome, and to hold an answer against what was
//! sent). Safe to repeat because what is `attaching` at the start is first checked for, and attaching a file twice is harmless.
//!
//! The ways in, from one call to many, are in [`rag_domain::AttachMethod`]; what the connection is known not to take is left out.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rag_db::attachments::{self, Attachment, NewAttachment};
use rag_db::{composition, uploads};
use rag_domain::{
    AttachCall, AttachMethod, AttachmentId, AttachmentState, BatchSupport, BuildPlan, FileId, PresentFile,
    WaitingFile, attach_calls,
};
use rag_providers::Ability;

use super::attach_permit::wait_for_permit;
use super::snapshot::{BuildSnapshot, Pages};
use super::state::Build;
use super::step::Step;
use super::upload_files::Signals;
use super::{attach_batch, attach_single, poll};
use crate::delete::detach::detach;
use crate::step_error::StepError;

/// Batches of at most this many, whatever the provider takes: progress stays visible, and an unknown outcome small.
const BATCH_FILES: usize = 500;
/// Rows that are read at once.
const PENDING: u32 = 1000;
/// A wait that is longer is left to the next claim.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    let mut pages = Pages::new(&build.job.domain_id, build.index.id);
    loop {
        let mut db = build.context.pool.acquire().await?;
        let page = pages.next(&mut db).await?;
        drop(db);
        let Some(page) = page else { break };
        want(build, &page).await?;
    }
    attach_pending(build, true).await?;
    build.report().await?;
    Ok(Step::AwaitIndexing)
}

/// Attaches what the uploads bring, until there are no more.
pub(super) async fn alongside(build: &Build<'_>, signals: &Signals) -> Result<(), StepError> {
    let full = build.provider.capabilities().max_batch_files.min(BATCH_FILES);
    let mut is_first = true;
    loop {
        signals.batch_is_due(full).await;
        let is_last = signals.have_uploads_ended();
        let polls = std::mem::take(&mut is_first) || is_last;
        match attach_pending(build, polls).await {
            Ok(()) if is_last => return Ok(()),
            Ok(()) => {}
            Err(
                StepError::Snooze { after, .. }
                | StepError::RateLimited { after, .. }
                | StepError::ProviderWait { after, .. },
            ) if !is_last => {
                signals.pause(after.min(LONGEST_PAUSE)).await;
                signals.add_pending(1);
            }
            Err(error) => {
                if !matches!(error, StepError::Retry { .. }) {
                    signals.stop_uploads.cancel();
                }
                return Err(error);
            }
        }
    }
}

/// Writes down what of these files is to be attached, and answers how many there are. A provider knows a file in a store by the
/// file's id: what is attached again under the same id is detached first.
pub(super) async fn want(build: &Build<'_>, snapshot: &BuildSnapshot) -> Result<usize, StepError> {
    let wanted: HashMap<&str, FileId> = snapshot
        .plan
        .attach
        .iter()
        .filter_map(|id| Some((snapshot.current_copy(*id)?, *id)))
        .collect();
    let waiting = snapshot
        .attachments
        .iter()
        .filter(|row| row.state == AttachmentState::Pending)
        .count();
    if wanted.is_empty() {
        return Ok(waiting);
    }
    // A row that waits to be attached again is kept as it is: only rows of files in `attach` have to be detached first.
    let in_the_way: Vec<&Attachment> = snapshot
        .attachments
        .iter()
        .filter(|row| wanted.contains_key(row.external_file_id.as_str()))
        .collect();
    detach(build, &in_the_way).await?;
    let files: Vec<FileId> = wanted.into_values().collect();
    let mut tx = build.write().await?;
    if !in_the_way.is_empty() {
        build.doubt_store(&mut tx).await?;
    }
    let snapshot = BuildSnapshot::of_files(&mut tx, &build.job.domain_id, build.index.id, &files).await?;
    // A strategy that changed since room was made: the file goes out in this round, and in again in the next.
    let in_the_way: HashSet<&str> = snapshot
        .attachments
        .iter()
        .map(|row| row.external_file_id.as_str())
        .collect();
    // A copy that is replaced from now on waits for us: either it sees these rows and stays until they are gone, or it has
    // been replaced already, and the next round attaches the new one.
    let current: HashMap<FileId, String> =
        uploads::lock_current(&mut tx, &build.index.provider_type, &snapshot.plan.attach)
            .await?
            .into_iter()
            .collect();
    let new: Vec<NewAttachment<'_>> = build
        .new_attachments(&snapshot)?
        .filter(|new| !in_the_way.contains(new.external_file_id))
        .filter(|new| {
            current
                .get(&new.local_file_id)
                .is_some_and(|current| current == new.external_file_id)
        })
        .collect();
    attachments::insert_many(&mut tx, &new).await?;
    let wanted = new.len();
    tx.commit().await?;
    Ok(waiting + wanted)
}

/// Attaches what waits to be attached, until nothing does. `polls`: looks first for what was asked for without an answer.
async fn attach_pending(build: &Build<'_>, polls: bool) -> Result<(), StepError> {
    let mut counts = build.count_attachments().await?;
    // What was asked for without hearing the answer is in the store, or may still come, or can be asked for again.
    let is_polled = polls && counts.attaching > 0;
    if is_polled {
        let mut tx = build.write().await?;
        build.doubt_store(&mut tx).await?;
        tx.commit().await?;
        poll::poll(build).await?;
    }
    while counts.pending > 0 || is_polled {
        let pending = wanted(build).await?;
        if pending.is_empty() {
            break;
        }
        build.check_running()?;
        wait_for_permit(build).await?;
        attach_next(build, &pending).await?;
        counts = build.count_attachments().await?;
    }
    Ok(())
}

/// What waits to go in, or some of it. What was to go in and is to go out by now (unlinked, or changed) stays where it is: it would be
/// searchable for a while.
async fn wanted(build: &Build<'_>) -> Result<Vec<Attachment>, StepError> {
    let mut limit = PENDING;
    loop {
        let mut db = build.context.pool.acquire().await?;
        let state = AttachmentState::Pending;
        let mut pending = attachments::list_in_state(&mut db, build.index.id, state, limit).await?;
        let is_all = pending.len() < limit as usize;
        let files: HashSet<FileId> = pending.iter().map(|row| row.local_file_id).collect();
        let files: Vec<FileId> = files.into_iter().collect();
        let members = composition::list_some(&mut db, &build.job.domain_id, build.index.id, &files).await?;
        drop(db);
        let desired: Vec<_> = members.into_iter().map(|member| member.desired).collect();
        let present: Vec<_> = pending.iter().map(PresentFile::from).collect();
        let plan = BuildPlan::new(&desired, &present);
        let leaving: HashSet<AttachmentId> = plan.detach.iter().map(|(id, _)| *id).collect();
        pending.retain(|row| !leaving.contains(&row.id));
        if is_all || !pending.is_empty() {
            return Ok(pending);
        }
        limit = limit.saturating_mul(2);
    }
}

/// Carries out the next calls for what waits: one batch, or what is left as single attaches, some at a time.
async fn attach_next(build: &Build<'_>, pending: &[Attachment]) -> Result<(), StepError> {
    let capabilities = build.provider.capabilities();
    let support = BatchSupport {
        batches: build.learned.holds(Ability::FileBatches) != Some(false),
        batch_files: capabilities.batch_per_file_strategy
            && build.learned.holds(Ability::BatchFiles) != Some(false),
    };
    let waiting: Vec<WaitingFile> = pending
        .iter()
        .map(|row| WaitingFile {
            strategy: row.chunking_strategy,
            next_way: row.next_method,
        })
        .collect();
    let calls = attach_calls(&waiting, support, capabilities.max_batch_files.min(BATCH_FILES));
    let rows = |call: &AttachCall| {
        call.files
            .iter()
            .filter_map(|at| pending.get(*at))
            .collect::<Vec<_>>()
    };
    // After each batch the rest is planned anew: the answer may have taught something.
    if let Some(batch) = calls.iter().find(|call| call.method != AttachMethod::Single) {
        return attach_batch::run(build, batch.method, &rows(batch)).await;
    }
    let singles: Vec<&Attachment> = calls.iter().flat_map(rows).collect();
    attach_single::run(build, &singles).await
}
