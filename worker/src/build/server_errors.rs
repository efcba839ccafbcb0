//! Files that failed at the provider by no fault of theirs (`server_error`) are attached again before they have failed for good.
//! A server that was killed while it indexed reports such failures when it is back, and so does one that lost the file:
//! then the file is uploaded anew.
//!
//! Reads and writes attachments and copies. Calls get of files, and detach. Safe to repeat because `detaching` is the intent
//! of a detach, and a detach of something absent is a success.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _};
use rag_db::attachments::Attachment;
use rag_db::{builds, uploads};
use rag_domain::{AttachmentId, AttachmentState};

use super::snapshot::Pages;
use super::state::{Build, MAX_REPAIR_ROUNDS};
use super::step::Step;
use crate::delete::detach::detach_to_reattach;
use crate::observe::is_absent;
use crate::step_error::StepError;

/// Codes of `last_error` that are about the server and not about the file.
const CODES: [&str; 2] = ["server_error", "rate_limit_exceeded"];
/// Files that are asked for at the same time.
const ASKED_AT_ONCE: usize = 4;

/// Attaches such files again, as often as the settings allow. `None`: there are none.
pub(super) async fn run(build: &Build<'_>) -> Result<Option<Step>, StepError> {
    if build.count_attachments().await?.failed == 0 {
        return Ok(None);
    }
    let mut pages = Pages::new(&build.job.domain_id, build.index.id);
    let (mut upload, mut attach) = (false, false);
    loop {
        let mut db = build.context.pool.acquire().await?;
        let page = pages.next(&mut db).await?;
        drop(db);
        let Some(page) = page else { break };
        let failed: Vec<&Attachment> = page
            .attachments
            .iter()
            .filter(|row| row.state == AttachmentState::Failed && page.is_kept(row))
            .filter(|row| {
                row.error_code
                    .as_deref()
                    .is_some_and(|code| CODES.contains(&code))
            })
            .collect();
        // Of several pages of such files, one counts as the round.
        let gone = upload_again(build, &failed, upload).await?;
        upload |= !gone.is_empty();
        let tries = build.context.settings.build_reattach_times;
        let again: Vec<&Attachment> = failed
            .into_iter()
            .filter(|row| row.reattached < tries && !gone.contains(&row.id))
            .collect();
        attach |= !again.is_empty();
        detach_to_reattach(build, &again, "the server failed with the file").await?;
    }
    if upload || attach {
        let mut tx = build.write().await?;
        build.doubt_store(&mut tx).await?;
        tx.commit().await?;
    }
    Ok(match (upload, attach) {
        (true, _) => Some(Step::UploadFiles),
        (false, true) => Some(Step::AttachFiles),
        (false, false) => None,
    })
}

/// Files that the provider does not find by their ids: that it could not index them agrees with that. Answers whether some are
/// to be uploaded again. At most as often in a build as its store is repaired, so a server that never keeps a file ends it.
async fn upload_again(
    build: &Build<'_>,
    failed: &[&Attachment],
    is_counted: bool,
) -> Result<HashSet<AttachmentId>, StepError> {
    if failed.is_empty() {
        return Ok(HashSet::new());
    }
    let mut db = build.context.pool.acquire().await?;
    let rounds = builds::find(&mut db, &build.job_id)
        .await?
        .map_or(0, |build| build.repair_rounds);
    drop(db);
    if !is_counted && rounds >= MAX_REPAIR_ROUNDS {
        return Ok(HashSet::new());
    }
    let asked: Vec<_> = failed.iter().map(|row| is_gone(build, row)).collect();
    let answers: Vec<bool> = futures::stream::iter(asked)
        .buffered(ASKED_AT_ONCE)
        .try_collect()
        .await?;
    let gone: Vec<&Attachment> = failed
        .iter()
        .zip(answers)
        .filter_map(|(row, gone)| gone.then_some(*row))
        .collect();
    if gone.is_empty() {
        return Ok(HashSet::new());
    }
    let mut tx = build.write_progress().await?;
    if !is_counted {
        builds::count_repair(&mut tx, &build.job_id).await?;
    }
    for row in &gone {
        uploads::mark_lost(&mut tx, &build.index.provider_type, &row.external_file_id).await?;
    }
    tx.commit().await?;
    tracing::warn!(
        files = gone.len(),
        "the provider could not index files, and does not find them: they are uploaded again"
    );
    Ok(gone.into_iter().map(|row| row.id).collect())
}

async fn is_gone(build: &Build<'_>, row: &Attachment) -> Result<bool, StepError> {
    match build.provider.get_file(&row.external_file_id).await {
        Ok(_) => Ok(false),
        Err(error) if is_absent(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
