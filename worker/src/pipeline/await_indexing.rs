//! Step 4: the provider has indexed every file, or said that it can't.
//!
//! Reads and writes attachments. Calls get of the store and list of its files. Looks once: if files are still on their
//! way the job is snoozed, which frees its slot and spends no attempt. Safe to repeat because it only copies what the
//! provider says.

use std::collections::HashMap;
use std::time::Duration;

use chrono::Utc;
use rag_db::attachments::{self, Attachment, Observation};
use rag_domain::AttachmentState;
use rag_providers::{ProviderExt as _, StoreFileStatus, VectorStoreFile};
use sqlx::MySqlConnection;

use super::{Build, Step};
use crate::halt::Halt;

/// Up to this many files every look lists them all, so that each file's state is fresh; beyond it the store's own counts
/// decide whether a listing is worth its requests.
const LIST_ALWAYS: usize = 500;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let waiting = waiting(build).await?;
    if waiting.is_empty() {
        return Ok(Step::DetachFiles);
    }
    if waiting.len() <= LIST_ALWAYS || nothing_in_progress(build).await? {
        look(build, &waiting).await?;
    } else {
        expire(build, &waiting).await?;
    }
    let picture = build.picture().await?;
    build.report(&picture).await?;
    let left = picture
        .attachments
        .iter()
        .filter(|row| row.state == AttachmentState::InProgress)
        .count();
    if left == 0 {
        return Ok(Step::DetachFiles);
    }
    Err(Halt::snooze(
        pause(build, &waiting),
        format!(
            "the provider is indexing {left} of {} files",
            picture.members.len()
        ),
    ))
}

async fn waiting(build: &Build<'_>) -> Result<Vec<Attachment>, Halt> {
    let mut db = build.context.pool.acquire().await?;
    let mut rows = attachments::list(&mut db, build.index.id).await?;
    rows.retain(|row| row.state == AttachmentState::InProgress);
    Ok(rows)
}

async fn nothing_in_progress(build: &Build<'_>) -> Result<bool, Halt> {
    Ok(build
        .provider
        .get_vector_store(build.store_id()?)
        .await?
        .file_counts
        .in_progress
        == 0)
}

/// Lists the store once and copies what the provider says of the files that we wait for.
async fn look(build: &Build<'_>, waiting: &[Attachment]) -> Result<(), Halt> {
    let listed = build.provider.all_store_files(build.store_id()?, None).await?;
    let there: HashMap<&str, &VectorStoreFile> = listed.iter().map(|file| (file.id.as_str(), file)).collect();
    let grace = build.provider.capabilities().settle_grace;
    let mut tx = build.write().await?;
    for row in waiting {
        match there.get(row.external_file_id.as_str()) {
            Some(file) if file.status.is_terminal() => observe(&mut tx, row, file).await?,
            Some(_) if is_overdue(build, row) => {
                fail(&mut tx, row, "indexing_timeout", "indexing took too long").await?;
            }
            None if age(row) > grace => {
                fail(
                    &mut tx,
                    row,
                    "not_in_store",
                    "the file is no longer in the vector store",
                )
                .await?;
            }
            _ => {}
        }
    }
    Ok(tx.commit().await?)
}

/// Without a listing: only the deadline counts.
async fn expire(build: &Build<'_>, waiting: &[Attachment]) -> Result<(), Halt> {
    if waiting.iter().any(|row| is_overdue(build, row)) {
        look(build, waiting).await
    } else {
        Ok(())
    }
}

/// Copies what the provider says of one file.
pub(crate) async fn observe(
    db: &mut MySqlConnection,
    row: &Attachment,
    file: &VectorStoreFile,
) -> Result<(), Halt> {
    let error = file.last_error.as_ref();
    let strategy = file
        .chunking_strategy
        .as_ref()
        .map(rag_providers::ChunkingStrategy::to_value);
    let seen = Observation {
        state: state(&file.status),
        reported_strategy: strategy.as_ref(),
        usage_bytes: Some(file.usage_bytes),
        error_code: error.map(|error| error.code.as_str()),
        last_error: error.map(|error| error.message.as_str()),
    };
    Ok(attachments::observe(db, row.id, &seen).await?)
}

/// A status that we do not know is no end: the deadline decides.
fn state(status: &StoreFileStatus) -> AttachmentState {
    match status {
        StoreFileStatus::Completed => AttachmentState::Completed,
        StoreFileStatus::Failed => AttachmentState::Failed,
        StoreFileStatus::Cancelled => AttachmentState::Cancelled,
        StoreFileStatus::InProgress | StoreFileStatus::Other(_) => AttachmentState::InProgress,
    }
}

async fn fail(db: &mut MySqlConnection, row: &Attachment, code: &str, error: &str) -> Result<(), Halt> {
    let seen = Observation {
        state: AttachmentState::Failed,
        reported_strategy: None,
        usage_bytes: row.usage_bytes,
        error_code: Some(code),
        last_error: Some(error),
    };
    Ok(attachments::observe(db, row.id, &seen).await?)
}

fn age(row: &Attachment) -> Duration {
    (Utc::now() - row.attached_at.unwrap_or(row.created_at))
        .to_std()
        .unwrap_or_default()
}

fn is_overdue(build: &Build<'_>, row: &Attachment) -> bool {
    age(row) > build.context.settings.build_indexing_timeout
}

/// A tenth of the time that we have waited already: quick answers for small builds, few questions for long ones.
fn pause(build: &Build<'_>, waiting: &[Attachment]) -> Duration {
    let settings = &build.context.settings;
    let waited = waiting.iter().map(age).max().unwrap_or_default();
    (waited / 10).clamp(settings.build_poll_min, settings.build_poll_max)
}
