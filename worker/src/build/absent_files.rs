//! What follows for files that a store's listing lacks while a build waits for them.
//!
//! Reads and writes attachments. Calls get of file batches and of store files. Safe to repeat because it decides from rows.
//!
//! A listing that lacks a file says nothing while the file's batch runs, while an attach may still be on its way, or so soon
//! after it that the provider may not show it yet. After that, a second poll some time later decides: the file was not
//! attached, and is attached again by the next method ([`rag_domain::AttachMethod`]).

use rag_db::attachments::{self, Attachment, NOT_IN_STORE};
use rag_domain::{AttachMethod, AttachmentState};
use rag_providers::Ability;

use super::failed_files::fail;
use super::observed_files::write;
use super::state::Build;
use crate::observe::age;
use crate::observe::batches::Batches;
use crate::observe::presence::{self, Direct};
use crate::step_error::StepError;

/// What the listing does not show. Answers those whose batch still runs.
pub(super) async fn judge<'a>(
    build: &Build<'_>,
    absent: &[&'a Attachment],
    control: Option<&str>,
) -> Result<Vec<&'a Attachment>, StepError> {
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    let store = build.store_id()?;
    let grace = build.provider.capabilities().settle_grace;
    let batches = Batches::of(&build.observer(), store, absent.iter().copied()).await?;
    let (mut running, mut ask_again, mut missed, mut candidates) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in absent {
        match row.state {
            // There was no answer. The request may still be on its way; once it can't be, the file is attached anew.
            AttachmentState::Attaching if row.ask_again_at.is_none_or(|at| at <= chrono::Utc::now()) => {
                ask_again.push(row.id);
            }
            AttachmentState::Attaching => {}
            _ if batches.is_running(row) => running.push(*row),
            // Its batch has ended and counts none of its files: the batch, the listing, and now the file itself agree.
            _ if batches.took_none(row) => candidates.push(*row),
            _ if age(row.attached_at.unwrap_or(row.created_at)) <= grace => {}
            _ => match row.missed_at.map(age) {
                None => missed.push(row.id),
                Some(missed_for) if missed_for >= build.observer().apart() => candidates.push(*row),
                Some(_) => {}
            },
        }
    }
    let mut tx = build.write().await?;
    attachments::mark_missed(&mut tx, &missed).await?;
    attachments::mark_pending(&mut tx, &ask_again).await?;
    tx.commit().await?;
    if !ask_again.is_empty() {
        tracing::info!(
            files = ask_again.len(),
            "attaches were never answered and had no effect: once more"
        );
    }
    if !candidates.is_empty() {
        let mut in_vain = Vec::new();
        for (row, (_, answer)) in candidates
            .iter()
            .zip(presence::of_files(&build.observer(), store, &candidates, control).await?)
        {
            match answer {
                Direct::There(file) => write(build, &[(*row, &file)]).await?,
                Direct::Absent | Direct::Unknown => in_vain.push(*row),
            }
        }
        attach_by_next_method(build, &in_vain, &batches).await?;
    }
    Ok(running)
}

/// Files that were accepted, and are proven not to be in the store: the next way, or none.
pub(super) async fn attach_by_next_method(
    build: &Build<'_>,
    rows: &[&Attachment],
    batches: &Batches,
) -> Result<(), StepError> {
    if rows.is_empty() {
        return Ok(());
    }
    // A batch that has ended and counts none of its files has witnessed it itself.
    for way in [AttachMethod::BatchFiles, AttachMethod::BatchFileIds] {
        let ignored = rows
            .iter()
            .any(|row| row.way() == Some(way) && batches.took_none(row));
        if ignored {
            let (ability, how) = match way {
                AttachMethod::BatchFiles => (
                    Ability::BatchFiles,
                    "a batch of files with their own strategies ended without counting or attaching one of them",
                ),
                _ => (
                    Ability::FileBatches,
                    "a batch of file_ids ended without counting or attaching one of them",
                ),
            };
            build.observer().learn(ability, false, how).await?;
        }
    }
    let tries = build.context.settings.build_reattach_times;
    let is_last =
        |row: &Attachment| row.way().is_none_or(|way| way == AttachMethod::Single) && row.reattached >= tries;
    let (lost, again): (Vec<&Attachment>, Vec<&Attachment>) =
        rows.iter().copied().partition(|row| is_last(row));
    tracing::warn!(
        again = again.len(),
        failed = lost.len(),
        "files that the provider accepted did not come into the store"
    );
    let ids: Vec<_> = again.iter().map(|row| row.id).collect();
    let mut tx = build.write().await?;
    attachments::advance_method(&mut tx, &ids).await?;
    let error = "the provider accepted the file, and it did not come into the vector store";
    fail(&mut tx, &lost, NOT_IN_STORE, error).await?;
    Ok(tx.commit().await?)
}
