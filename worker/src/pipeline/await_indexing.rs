//! Step 4: the provider has indexed every file, or said that it can't, or had its time.
//!
//! Reads and writes attachments. Calls get of the store, list of its files, and detach of those that are stuck. Looks once: if
//! files are still on their way the job is snoozed, which frees its slot and spends no attempt. A file that is not indexed in
//! time is taken out and goes in again, so often as the settings say; then it has failed. Safe to repeat because it only
//! copies what the provider says, and a detach of something absent is a success.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_db::attachments::{self, Attachment, Observation};
use rag_db::{indexes, uploads};
use rag_domain::{AttachmentState, ChunkingProof};
use rag_providers::{ReportedStrategy, StoreFileStatus, VectorStoreFile};
use serde_json::Value;
use sqlx::MySqlConnection;

use super::detach_files::mark_detaching;
use super::ensure_vector_store;
use super::{Build, Step};
use crate::halt::Halt;

/// Up to this many files every look lists them all, so that each file's state is fresh; beyond it the store's own counts
/// decide whether a listing is worth its requests.
const LIST_ALWAYS: usize = 500;
/// What a file fails with that the provider did not index in time.
pub(crate) const INDEXING_TIMEOUT: &str = "indexing_timeout";

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let waiting = waiting(build).await?;
    if waiting.is_empty() {
        return Ok(Step::DetachFiles);
    }
    let overdue = waiting.iter().any(|row| is_overdue(build, row));
    if overdue || waiting.len() <= LIST_ALWAYS || nothing_in_progress(build).await? {
        let unfinished = look(build, &waiting).await?;
        if give_up(build, unfinished).await? {
            return Ok(Step::AttachFiles);
        }
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
    if !waiting.is_empty() {
        look(build, &waiting).await?;
    }
    Ok(())
}

async fn waiting(build: &Build<'_>) -> Result<Vec<Attachment>, Halt> {
    let mut db = build.context.pool.acquire().await?;
    let mut rows = attachments::list(&mut db, build.index.id).await?;
    rows.retain(|row| row.state == AttachmentState::InProgress);
    Ok(rows)
}

async fn nothing_in_progress(build: &Build<'_>) -> Result<bool, Halt> {
    let store = build.store_id()?;
    match build.provider.get_vector_store(store).await {
        Ok(store) => Ok(store.file_counts.in_progress == 0),
        Err(error) if error.kind == rag_providers::ErrorKind::NotFound => {
            Err(ensure_vector_store::missing(build, store, error).await)
        }
        Err(error) => Err(error.into()),
    }
}

/// Lists the store once and copies what the provider says of the files that we wait for. Answers those that it still has to
/// index.
async fn look<'a>(build: &Build<'_>, waiting: &'a [Attachment]) -> Result<Vec<&'a Attachment>, Halt> {
    let listed = ensure_vector_store::list_files(build).await?;
    let there = Listed::new(&listed);
    let grace = build.provider.capabilities().settle_grace;
    let (mut ended, mut gone, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
    for row in waiting {
        match there.find(row) {
            Some(file) if file.status.is_terminal() => ended.push((row, file)),
            Some(_) => unfinished.push(row),
            None if age(row) > grace => gone.push(row),
            None => {}
        }
    }
    let (mut tx, index) = build.write_index().await?;
    indexes::set_provider_seen(&mut tx, index.id).await?;
    if !ended.is_empty() {
        build.claim.progress(&mut tx).await?;
    }
    observe_all(build, &mut tx, &ended).await?;
    fail(
        &mut tx,
        &gone,
        "not_in_store",
        "the file is no longer in the vector store",
    )
    .await?;
    tx.commit().await?;
    Ok(unfinished)
}

/// What has had its time goes out, and in again or for good. Answers whether something goes in again.
async fn give_up(build: &Build<'_>, unfinished: Vec<&Attachment>) -> Result<bool, Halt> {
    let settings = &build.context.settings;
    let is_late = Utc::now() > deadline(build);
    let overdue = unfinished
        .into_iter()
        .filter(|row| is_late || is_overdue(build, row));
    let (again, failed): (Vec<_>, Vec<_>) =
        overdue.partition(|row| !is_late && row.reattached < settings.build_reattach_times);
    if !failed.is_empty() {
        let error = if is_late {
            "the build ran out of time before the provider had indexed the file".to_owned()
        } else {
            let tries = settings.build_reattach_times + 1;
            let seconds = settings.build_indexing_timeout.as_secs();
            format!("the provider did not index the file within {seconds} s, in {tries} tries")
        };
        tracing::warn!(files = failed.len(), error, "files are given up");
        let mut tx = build.write().await?;
        fail(&mut tx, &failed, INDEXING_TIMEOUT, &error).await?;
        tx.commit().await?;
    }
    mark_detaching(build, &again).await?;
    for row in &again {
        build.check_running()?;
        build
            .provider
            .detach_file(&row.external_store_id, row.store_file_id())
            .await?;
        let mut tx = build.write().await?;
        attachments::mark_pending_again(&mut tx, row.id).await?;
        tx.commit().await?;
        tracing::warn!(
            file.id = %row.local_file_id,
            again = row.reattached + 1,
            "not indexed in time: taken out, to go in again"
        );
    }
    Ok(!again.is_empty())
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

/// Copies what the provider says of these files.
pub(crate) async fn observe_all(
    build: &Build<'_>,
    db: &mut MySqlConnection,
    files: &[(&Attachment, &VectorStoreFile)],
) -> Result<(), Halt> {
    observe_rows(db, files).await?;
    if !build.provider.capabilities().external_file_id_is_store_file {
        return Ok(());
    }
    for (row, file) in files {
        if let Some(store_file_id) = own_id(row, file) {
            let provider = &build.index.provider_type;
            uploads::set_store_file_id(db, provider, &row.external_file_id, store_file_id).await?;
        }
    }
    Ok(())
}

/// As [`observe_all`], for the attachments alone.
pub(crate) async fn observe_rows(
    db: &mut MySqlConnection,
    files: &[(&Attachment, &VectorStoreFile)],
) -> Result<(), Halt> {
    let strategies: Vec<Option<Value>> = files
        .iter()
        .map(|(_, file)| file.chunking_strategy.as_ref().map(ReportedStrategy::to_value))
        .collect();
    let seen: Vec<_> = files
        .iter()
        .zip(&strategies)
        .map(|((row, file), reported)| {
            let error = file.last_error.as_ref();
            let seen = Observation {
                state: state(&file.status),
                external_store_file_id: own_id(row, file),
                reported_strategy: reported.as_ref(),
                strategy_applied: ChunkingProof::of(row.chunking_strategy, reported.as_ref(), None).matches(),
                usage_bytes: Some(file.usage_bytes),
                error_code: error.map(|error| error.code.as_str()),
                last_error: error.map(|error| error.message.as_str()),
            };
            (row.id, seen)
        })
        .collect();
    Ok(attachments::observe_many(db, &seen).await?)
}

/// What the store calls the file, where that is not what the Files API calls it.
fn own_id<'a>(row: &Attachment, file: &'a VectorStoreFile) -> Option<&'a str> {
    (file.id != row.external_file_id).then_some(file.id.as_str())
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

async fn fail(db: &mut MySqlConnection, rows: &[&Attachment], code: &str, error: &str) -> Result<(), Halt> {
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            let seen = Observation {
                state: AttachmentState::Failed,
                external_store_file_id: None,
                reported_strategy: None,
                strategy_applied: None,
                usage_bytes: row.usage_bytes,
                error_code: Some(code),
                last_error: Some(error),
            };
            (row.id, seen)
        })
        .collect();
    Ok(attachments::observe_many(db, &seen).await?)
}

fn age(row: &Attachment) -> Duration {
    (Utc::now() - row.attached_at.unwrap_or(row.created_at))
        .to_std()
        .unwrap_or_default()
}

fn is_overdue(build: &Build<'_>, row: &Attachment) -> bool {
    age(row) > build.context.settings.build_indexing_timeout || Utc::now() > deadline(build)
}

/// When the build's whole time is over; what is not indexed by then has failed.
fn deadline(build: &Build<'_>) -> DateTime<Utc> {
    build.started_at + build.context.settings.build_deadline
}

/// A tenth of the time that we have waited already: quick answers for small builds, few questions for long ones.
fn pause(build: &Build<'_>, waiting: &[Attachment]) -> Duration {
    let settings = &build.context.settings;
    let waited = waiting.iter().map(age).max().unwrap_or_default();
    (waited / 10).clamp(settings.build_poll_min, settings.build_poll_max)
}
