//! Files that failed at the provider by no fault of theirs (`server_error`) are attached again before they have failed for good.
//! A server that was killed while it indexed reports such failures when it is back, and so does one that lost the file:
//! then the file is uploaded anew.
//!
//! Reads and writes attachments and copies. Calls get of files, and detach. Safe to repeat because `detaching` is the intent
//! of a detach, and a detach of something absent is a success.

use futures::{StreamExt as _, TryStreamExt as _};
use rag_db::attachments::Attachment;
use rag_db::{builds, uploads};
use rag_domain::AttachmentState;

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
    let snapshot = build.snapshot().await?;
    let failed: Vec<&Attachment> = snapshot
        .attachments
        .iter()
        .filter(|row| row.state == AttachmentState::Failed && snapshot.is_kept(row))
        .filter(|row| {
            row.error_code
                .as_deref()
                .is_some_and(|code| CODES.contains(&code))
        })
        .collect();
    if failed.is_empty() {
        return Ok(None);
    }
    if upload_again(build, &failed).await? {
        return Ok(Some(Step::UploadFiles));
    }
    let tries = build.context.settings.build_reattach_times;
    let again: Vec<&Attachment> = failed.into_iter().filter(|row| row.reattached < tries).collect();
    if again.is_empty() {
        return Ok(None);
    }
    detach_to_reattach(build, &again, "the server failed with the file").await?;
    Ok(Some(Step::AttachFiles))
}

/// Files that the provider does not find by their ids: that it could not index them agrees with that. Answers whether some are
/// to be uploaded again. At most as often in a build as its store is repaired, so a server that never keeps a file ends it.
async fn upload_again(build: &Build<'_>, failed: &[&Attachment]) -> Result<bool, StepError> {
    let mut db = build.context.pool.acquire().await?;
    let rounds = builds::find(&mut db, &build.job_id)
        .await?
        .map_or(0, |build| build.repair_rounds);
    drop(db);
    if rounds >= MAX_REPAIR_ROUNDS {
        return Ok(false);
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
        return Ok(false);
    }
    let mut tx = build.write_progress().await?;
    builds::count_repair(&mut tx, &build.job_id).await?;
    for row in &gone {
        uploads::mark_lost(&mut tx, &build.index.provider_type, &row.external_file_id).await?;
    }
    tx.commit().await?;
    tracing::warn!(
        files = gone.len(),
        "the provider could not index files, and does not find them: they are uploaded again"
    );
    Ok(true)
}

async fn is_gone(build: &Build<'_>, row: &Attachment) -> Result<bool, StepError> {
    match build.provider.get_file(&row.external_file_id).await {
        Ok(_) => Ok(false),
        Err(error) if is_absent(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
