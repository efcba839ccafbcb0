//! Step 4: the provider has indexed every file, or said that it can't, or had its time.
//!
//! Reads and writes attachments. Calls what `poll` calls, get of the store, and detach of files that are stuck. Polls once: if
//! files are still on their way the job is snoozed, which frees its slot and spends no attempt. A file that is not indexed in
//! time is detached and attached again, as often as the settings say; then it has failed. Safe to repeat because it only
//! copies what the provider says, and a detach of something absent is a success. What failed by the server's own fault goes in
//! again, see `server_errors`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_db::attachments::Attachment;
use rag_db::builds;
use rag_domain::AttachmentState;

use super::failed_files::fail;
use super::poll::{self, waiting};
use super::state::Build;
use super::step::Step;
use super::{server_errors, store_check};
use crate::delete::detach::detach_to_reattach;
use crate::observe::batches::Batches;
use crate::observe::{age, is_absent};
use crate::step_error::StepError;

/// Up to this many files every poll lists them all, so that each file's state is fresh; beyond it the batches and the store's
/// own counts decide whether a listing is worth its requests.
const LIST_ALWAYS: usize = 500;
/// However they stand, a listing is due after so many of the longest pauses: counts that never reach zero have been seen.
const LIST_AFTER_PAUSES: u32 = 8;
/// What a file fails with that the provider did not index in time.
const INDEXING_TIMEOUT: &str = "indexing_timeout";

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    let waiting = waiting(build).await?;
    if waiting.is_empty() {
        return Ok(server_errors::run(build).await?.unwrap_or(Step::DetachFiles));
    }
    let overdue = waiting.iter().any(|row| is_overdue(build, row));
    if overdue || waiting.len() <= LIST_ALWAYS || is_listing_due(build, &waiting).await? {
        let unfinished = poll::poll(build, &waiting).await?;
        if give_up(build, unfinished).await? {
            return Ok(Step::AttachFiles);
        }
    }
    give_up_unconfirmed(build).await?;
    let snapshot = build.snapshot().await?;
    build.report(&snapshot).await?;
    let in_state = |state| {
        snapshot
            .attachments
            .iter()
            .filter(|row| row.state == state)
            .count()
    };
    if in_state(AttachmentState::Pending) > 0 {
        return Ok(Step::AttachFiles);
    }
    let (left, unconfirmed) = (
        in_state(AttachmentState::InProgress),
        in_state(AttachmentState::Attaching),
    );
    if left + unconfirmed == 0 {
        return Ok(server_errors::run(build).await?.unwrap_or(Step::DetachFiles));
    }
    let unconfirmed = if unconfirmed > 0 {
        format!(" ({unconfirmed} more were asked for without an answer yet)")
    } else {
        String::new()
    };
    Err(StepError::snooze(
        pause(build, &waiting),
        format!(
            "the provider is indexing {left} of {} files{unconfirmed}",
            snapshot.members.len()
        ),
    ))
}

/// Whether a long listing is worth its requests: a batch of ours has ended, the store counts nothing in progress, or the last listing
/// was long ago.
async fn is_listing_due(build: &Build<'_>, waiting: &[Attachment]) -> Result<bool, StepError> {
    let mut db = build.context.pool.acquire().await?;
    let listed_at = builds::find(&mut db, &build.job_id)
        .await?
        .and_then(|build| build.listed_at);
    drop(db);
    let interval = build.context.settings.build_poll_max * LIST_AFTER_PAUSES;
    if age(listed_at.unwrap_or(build.started_at)) >= interval {
        return Ok(true);
    }
    let store = build.store_id()?;
    Ok(Batches::of(&build.observer(), store, waiting).await?.any_ended()
        || nothing_in_progress(build).await?)
}

async fn nothing_in_progress(build: &Build<'_>) -> Result<bool, StepError> {
    let store = build.store_id()?;
    match build.provider.get_vector_store(store).await {
        Ok(store) => Ok(store.file_counts.in_progress == 0),
        Err(error) if is_absent(&error) => Err(store_check::missing(build, store, error).await),
        Err(error) => Err(error.into()),
    }
}

/// Attaches that were never answered, and whose files never came to light, when the whole build is out of time.
async fn give_up_unconfirmed(build: &Build<'_>) -> Result<(), StepError> {
    if Utc::now() <= deadline(build) {
        return Ok(());
    }
    let mut rows = waiting(build).await?;
    rows.retain(|row| row.state == AttachmentState::Attaching);
    let rows: Vec<&Attachment> = rows.iter().collect();
    let mut tx = build.write().await?;
    let error = "the provider did not answer the attach before the build ran out of time";
    fail(&mut tx, &rows, INDEXING_TIMEOUT, error).await?;
    Ok(tx.commit().await?)
}

/// Files whose time is over are detached, to be attached again, or have failed. Answers whether some are to be attached again.
async fn give_up(build: &Build<'_>, unfinished: Vec<&Attachment>) -> Result<bool, StepError> {
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
    detach_to_reattach(build, &again, "not indexed in time").await?;
    Ok(!again.is_empty())
}

fn waited(row: &Attachment) -> Duration {
    age(row.attached_at.unwrap_or(row.created_at))
}

fn is_overdue(build: &Build<'_>, row: &Attachment) -> bool {
    row.state == AttachmentState::InProgress
        && (waited(row) > build.context.settings.build_indexing_timeout || Utc::now() > deadline(build))
}

/// When the build's whole time is over; what is not indexed by then has failed.
fn deadline(build: &Build<'_>) -> DateTime<Utc> {
    build.started_at + build.context.settings.build_deadline
}

/// A tenth of the time that we have waited already: quick answers for small builds, few questions for long ones.
fn pause(build: &Build<'_>, waiting: &[Attachment]) -> Duration {
    let settings = &build.context.settings;
    let waited = waiting.iter().map(waited).max().unwrap_or_default();
    (waited / 10).clamp(settings.build_poll_min, settings.build_poll_max)
}
