//! Step 4: the provider has indexed every file, or said that it can't.
//!
//! Reads and writes attachments. Calls get of the store and list of its files. Looks once: if files are still on their
//! way the job is snoozed, which frees its slot and spends no attempt. Safe to repeat because it only copies what the
//! provider says.

use std::collections::HashMap;
use std::time::Duration;

use chrono::Utc;
use rag_db::attachments::{self, Attachment, Observation};
use rag_db::uploads;
use rag_domain::{AttachmentState, ChunkingStrategy};
use rag_providers::{ProviderExt as _, ReportedStrategy, StoreFileStatus, VectorStoreFile};
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

/// Brings the rows of this build up to date, whatever they say.
pub(crate) async fn look_once(build: &Build<'_>) -> Result<(), Halt> {
    let waiting = waiting(build).await?;
    if waiting.is_empty() {
        Ok(())
    } else {
        look(build, &waiting).await
    }
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
    let there = Listed::new(&listed);
    let grace = build.provider.capabilities().settle_grace;
    let mut tx = build.write().await?;
    for row in waiting {
        match there.find(row) {
            Some(file) if file.status.is_terminal() => observe(build, &mut tx, row, file).await?,
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

/// A listing of a store, by the ids that its files go by.
pub(crate) struct Listed<'a>(HashMap<&'a str, &'a VectorStoreFile>);

impl<'a> Listed<'a> {
    pub(crate) fn new(files: &'a [VectorStoreFile]) -> Self {
        let ids = files
            .iter()
            .flat_map(|file| [(file.id.as_str(), file), (file.file_id(), file)]);
        Self(ids.collect())
    }

    pub(crate) fn find(&self, row: &Attachment) -> Option<&'a VectorStoreFile> {
        let by = |id: &str| self.0.get(id).copied();
        by(row.store_file_id()).or_else(|| by(&row.external_file_id))
    }
}

/// Copies what the provider says of one file.
pub(crate) async fn observe(
    build: &Build<'_>,
    db: &mut MySqlConnection,
    row: &Attachment,
    file: &VectorStoreFile,
) -> Result<(), Halt> {
    let error = file.last_error.as_ref();
    let strategy = file.chunking_strategy.as_ref().map(ReportedStrategy::to_value);
    let store_file_id = (file.id != row.external_file_id).then_some(file.id.as_str());
    let seen = Observation {
        state: state(&file.status),
        external_store_file_id: store_file_id,
        reported_strategy: strategy.as_ref(),
        strategy_applied: strategy_applied(row, file),
        usage_bytes: Some(file.usage_bytes),
        error_code: error.map(|error| error.code.as_str()),
        last_error: error.map(|error| error.message.as_str()),
    };
    attachments::observe(db, row.id, &seen).await?;
    if let Some(store_file_id) = store_file_id
        && build.provider.capabilities().external_file_id_is_store_file
    {
        let provider = &build.index.provider_type;
        uploads::set_store_file_id(db, provider, &row.external_file_id, store_file_id).await?;
    }
    Ok(())
}

/// A fixed strategy is reported as it was asked for; what `auto` came to can't be compared.
fn strategy_applied(row: &Attachment, file: &VectorStoreFile) -> Option<bool> {
    let asked = row
        .chunking_strategy
        .filter(|asked| *asked != ChunkingStrategy::AUTO)?;
    let reported = file.chunking_strategy.as_ref()?;
    Some(*reported == asked)
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
        external_store_file_id: None,
        reported_strategy: None,
        strategy_applied: None,
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
