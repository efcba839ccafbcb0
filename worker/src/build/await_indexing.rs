//! Step 4: the provider has indexed every file, or said that it can't, or had its time.
//!
//! Reads and writes attachments. Calls what `poll` calls, get of the store and of file batches, and detach of files that are
//! stuck. A file that is not indexed in time is detached and attached again, as often as the settings say; then it has failed. Safe
//! to repeat because it only copies what the provider says, and a detach of something absent is a success. What failed by the
//! server's own fault goes in again, see `server_errors`.
//!
//! The pause between two polls is a tenth of the time that the build has waited already: quick answers for small builds, few
//! questions for long ones. Short pauses are waited for here, as long as another build could begin beside this one; else the job is
//! snoozed, which frees its slot and spends no attempt.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_db::attachments::{self, Attachment, WaitingSince};
use rag_db::builds;
use rag_domain::AttachmentState;

use super::failed_files::fail;
use super::poll::{self, Unfinished};
use super::snapshot::PAGE;
use super::state::Build;
use super::step::Step;
use super::{server_errors, store_check};
use crate::delete::detach::detach_to_reattach;
use crate::observe::{age, is_absent};
use crate::step_error::StepError;

/// With up to this many files every poll lists the store, so that each file's state is fresh; beyond it the batches and the store's
/// own counts decide whether a listing is worth its requests.
const LIST_ALWAYS: u64 = 500;
/// However they stand, a listing is due after so many of the longest pauses: counts that never reach zero have been seen.
const LIST_AFTER_PAUSES: u32 = 8;
/// Up to so many batches are asked for one by one, rather than the store for its counts.
const FEW_BATCHES: u32 = 3;
/// A pause that is longer frees the job's slot, whoever wants it.
const LONGEST_PAUSE_HERE: Duration = Duration::from_millis(500);
/// What a file fails with that the provider did not index in time.
const INDEXING_TIMEOUT: &str = "indexing_timeout";

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    loop {
        let counts = build.count_attachments().await?;
        if counts.waiting() == 0 {
            return next(build).await;
        }
        let since = waiting_since(build).await?;
        let is_overdue = since.accepted.is_some_and(|since| is_over(build, since));
        if is_overdue || counts.total() <= LIST_ALWAYS || is_listing_due(build).await? {
            let unfinished = poll::poll(build).await?;
            if is_overdue && give_up(build, &unfinished).await? {
                return Ok(Step::AttachFiles);
            }
        }
        give_up_unconfirmed(build).await?;
        let counts = build.count_attachments().await?;
        if counts.pending > 0 {
            return Ok(Step::AttachFiles);
        }
        if counts.waiting() == 0 {
            return next(build).await;
        }
        let pause = pause(build, since);
        if pause > LONGEST_PAUSE_HERE || !build.context.has_free_build_slot() {
            build.report().await?;
            let unconfirmed = match counts.attaching {
                0 => String::new(),
                unconfirmed => format!(" ({unconfirmed} more were asked for without an answer yet)"),
            };
            let (left, total) = (counts.in_progress, counts.total());
            return Err(StepError::snooze(
                pause,
                format!("the provider is indexing {left} of {total} files{unconfirmed}"),
            ));
        }
        build.report_if_due().await?;
        tokio::time::sleep(pause).await;
        build.check_running()?;
    }
}

/// Nothing is left to wait for.
async fn next(build: &Build<'_>) -> Result<Step, StepError> {
    let again = server_errors::run(build).await?;
    Ok(again.unwrap_or(Step::DetachFiles))
}

async fn waiting_since(build: &Build<'_>) -> Result<WaitingSince, StepError> {
    let mut db = build.context.pool.acquire().await?;
    Ok(attachments::find_waiting_since(&mut db, build.index.id).await?)
}

/// Whether a long listing is worth its requests: a batch of ours has ended, the store counts nothing in progress, or the last listing
/// was long ago.
async fn is_listing_due(build: &Build<'_>) -> Result<bool, StepError> {
    let mut db = build.context.pool.acquire().await?;
    let listed_at = builds::find(&mut db, &build.job_id)
        .await?
        .and_then(|build| build.listed_at);
    let batches = attachments::list_waiting_batches(&mut db, build.index.id, FEW_BATCHES + 1).await?;
    drop(db);
    let interval = build.context.settings.build_poll_max * LIST_AFTER_PAUSES;
    if age(listed_at.unwrap_or(build.started_at)) >= interval {
        return Ok(true);
    }
    let store = build.store_id()?;
    if batches.len() <= FEW_BATCHES as usize {
        for batch in batches {
            match build.provider.get_file_batch(store, &batch).await {
                Ok(batch) if batch.status.is_terminal() => return Ok(true),
                Ok(_) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    nothing_in_progress(build).await
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
    let error = "the provider did not answer the attach before the build ran out of time";
    loop {
        let mut db = build.context.pool.acquire().await?;
        let state = AttachmentState::Attaching;
        let rows = attachments::list_in_state(&mut db, build.index.id, state, PAGE).await?;
        drop(db);
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<&Attachment> = rows.iter().collect();
        let mut tx = build.write().await?;
        fail(&mut tx, &rows, INDEXING_TIMEOUT, error).await?;
        build.doubt_store(&mut tx).await?;
        tx.commit().await?;
    }
}

/// Files whose time is over are detached, to be attached again, or have failed. Answers whether some are to be attached again.
async fn give_up(build: &Build<'_>, unfinished: &Unfinished) -> Result<bool, StepError> {
    let settings = &build.context.settings;
    let is_late = Utc::now() > deadline(build);
    let (mut after, mut some_again) = (None, false);
    loop {
        let mut db = build.context.pool.acquire().await?;
        let rows = attachments::list_waiting(&mut db, build.index.id, after, PAGE).await?;
        drop(db);
        let overdue = rows.iter().filter(|row| {
            unfinished.contains(&row.id)
                && (is_late || (row.state == AttachmentState::InProgress && is_over(build, since(row))))
        });
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
            build.doubt_store(&mut tx).await?;
            tx.commit().await?;
        }
        some_again |= !again.is_empty();
        detach_to_reattach(build, &again, "not indexed in time").await?;
        match rows.last().filter(|_| rows.len() >= PAGE as usize) {
            Some(last) => after = Some(last.id),
            None => break,
        }
    }
    if some_again {
        let mut tx = build.write().await?;
        build.doubt_store(&mut tx).await?;
        tx.commit().await?;
    }
    Ok(some_again)
}

fn since(row: &Attachment) -> DateTime<Utc> {
    row.attached_at.unwrap_or(row.created_at)
}

/// The time is over of a file that the provider has been indexing since then.
fn is_over(build: &Build<'_>, since: DateTime<Utc>) -> bool {
    age(since) > build.context.settings.build_indexing_timeout || Utc::now() > deadline(build)
}

/// When the build's whole time is over; what is not indexed by then has failed.
fn deadline(build: &Build<'_>) -> DateTime<Utc> {
    build.started_at + build.context.settings.build_deadline
}

fn pause(build: &Build<'_>, since: WaitingSince) -> Duration {
    let settings = &build.context.settings;
    let waited = since.any.map(age).unwrap_or_default();
    (waited / 10).clamp(settings.build_poll_min, settings.build_poll_max)
}
