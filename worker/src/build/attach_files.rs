//! Step 3: every file with a current copy is attached to the store, each with its own chunking strategy.
//!
//! Reads composition and attachments. Writes attachments: `pending` (wanted), `attaching` (the intent, with the method and how
//! long the answer may still come), `in_progress` (accepted). Calls detach (for files that are attached anew under the same id),
//! attach and create of file batches, and what `poll` calls (after an unknown outcome, and to hold an answer against what was
//! sent). Safe to repeat because what is `attaching` at the start is first checked for, and attaching a file twice is harmless.
//!
//! The ways in, from one call to many, are in [`rag_domain::AttachMethod`]; what the connection is known not to take is left out.

use std::collections::{HashMap, HashSet};

use rag_db::attachments::{self, Attachment, NewAttachment};
use rag_db::uploads;
use rag_domain::{
    AttachCall, AttachMethod, AttachmentId, AttachmentState, BatchSupport, FileId, WaitingFile, attach_calls,
};
use rag_providers::Ability;

use super::attach_permit::wait_for_permit;
use super::snapshot::BuildSnapshot;
use super::state::Build;
use super::step::Step;
use super::{attach_batch, attach_single, poll};
use crate::delete::detach::detach;
use crate::step_error::StepError;

/// Batches of at most this many, whatever the provider takes: progress stays visible, and an unknown outcome small.
const BATCH_FILES: usize = 500;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    let snapshot = build.snapshot().await?;
    make_room(build, &snapshot).await?;
    want(build).await?;
    // What was asked for without hearing the answer is in the store, or may still come, or can be asked for again.
    if !build.attachments_in(AttachmentState::Attaching).await?.is_empty() {
        poll::poll_once(build).await?;
    }
    loop {
        let pending = wanted(build).await?;
        if pending.is_empty() {
            return Ok(Step::AwaitIndexing);
        }
        build.check_running()?;
        wait_for_permit(build).await?;
        attach_next(build, &pending).await?;
        build.report(&build.snapshot().await?).await?;
    }
}

/// A provider knows a file in a store by the file's id: what is attached again under the same id is detached first.
async fn make_room(build: &Build<'_>, snapshot: &BuildSnapshot) -> Result<(), StepError> {
    let wanted: HashSet<&str> = snapshot
        .plan
        .attach
        .iter()
        .filter_map(|id| snapshot.current_copy(*id))
        .collect();
    // A row that waits to be attached again is kept as it is: only rows of files in `attach` have to be detached first.
    let in_the_way: Vec<&Attachment> = snapshot
        .attachments
        .iter()
        .filter(|row| wanted.contains(row.external_file_id.as_str()))
        .collect();
    detach(build, &in_the_way).await
}

/// Writes down what is to be attached.
async fn want(build: &Build<'_>) -> Result<(), StepError> {
    let store = build.store_id()?;
    let mut tx = build.write().await?;
    let snapshot = build.snapshot_in(&mut tx).await?;
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
    let new: Vec<NewAttachment<'_>> = snapshot
        .plan
        .attach
        .iter()
        .filter_map(|id| Some((*id, snapshot.current_copy(*id)?, snapshot.member(*id)?)))
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
async fn wanted(build: &Build<'_>) -> Result<Vec<Attachment>, StepError> {
    let mut snapshot = build.snapshot().await?;
    let leaving: HashSet<AttachmentId> = snapshot.plan.detach.iter().map(|(id, _)| *id).collect();
    snapshot
        .attachments
        .retain(|row| row.state == AttachmentState::Pending && !leaving.contains(&row.id));
    Ok(snapshot.attachments)
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
