//! Attaching files one by one, some at a time, each with a time limit that grows with its size.
//!
//! Writes attachments, and copies that the provider lost. Calls attach. What was sent and not answered in time is searched for,
//! and not sent again before its time is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use rag_db::attachments::{self, Attachment, Observation};
use rag_db::uploads;
use rag_domain::{AttachMethod, AttachmentState};
use rag_providers::{
    Ability, AttachFile, Attributes, Disposition, Effect, ErrorKind, ProviderError, StoreFileStatus,
};

use super::attach_permit::{declare, wait_for_permit};
use super::observed_files;
use super::state::Build;
use super::store_check;
use crate::observe::age;
use crate::step_error::StepError;

/// Single attaches on the wire at once.
const SINGLES_AT_ONCE: usize = 4;
/// What a single attach may take: so long, and a second more for each of these bytes.
const ATTACH_TIME: Duration = Duration::from_secs(90);
const ATTACH_BYTES_PER_SECOND: u64 = 8 * 1024;
const LONGEST_ATTACH: Duration = Duration::from_hours(1);
/// An answer that took so long and finds the file indexed has waited for that.
const SLOW_ANSWER: Duration = Duration::from_secs(2);
const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

/// After the first reason to stop nothing new begins, but what has begun is waited for.
pub(super) async fn run(build: &Build<'_>, rows: &[&Attachment]) -> Result<(), StepError> {
    // Where only so much is indexed at once, there is a permit for one at a time.
    let limited = build.provider.capabilities().max_concurrent_indexing.is_some();
    let at_once = if limited { 1 } else { SINGLES_AT_ONCE };
    let stopping = AtomicBool::new(false);
    let calls: Vec<_> = rows
        .iter()
        .map(|row| {
            let stopping = &stopping;
            async move {
                if stopping.load(Ordering::Relaxed) {
                    return Ok(());
                }
                build.check_running()?;
                wait_for_permit(build).await?;
                attach_one(build, row).await
            }
            .boxed()
        })
        .collect();
    let mut calls = futures::stream::iter(calls).buffer_unordered(at_once);
    let mut first_error = None;
    while let Some(result) = calls.next().await {
        if let Err(error) = result {
            stopping.store(true, Ordering::Relaxed);
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn attach_one(build: &Build<'_>, row: &Attachment) -> Result<(), StepError> {
    let time = attach_time(row.size_bytes);
    // A server that answers when the file is indexed may be at it long after this worker.
    let patience = if build.learned.holds(Ability::AttachReturnsEarly) == Some(false) {
        time.max(build.observer().apart())
    } else {
        build.observer().apart()
    };
    declare(build, &[row.id], AttachMethod::Single, patience).await?;
    let file = AttachFile {
        time: Some(time),
        ..request(build, row)
    };
    let began = Instant::now();
    match build.provider.attach_file(build.store_id()?, file).await {
        Ok(answer) => {
            learn_from(build, &answer.file.status, began.elapsed()).await?;
            let applied = answer.chunking_strategy_applied;
            let mut tx = build.write_progress().await?;
            attachments::mark_in_progress(&mut tx, &[row.id], None, applied).await?;
            tx.commit().await?;
            observed_files::write_one(build, row, &answer.file.into()).await?;
            warn_unless_applied(applied, 1);
            Ok(())
        }
        Err(error) if error.effect == Effect::None => refused(build, row, error).await,
        Err(error) if error.kind == ErrorKind::Timeout => {
            let patience = patience_after_timeout(build, AttachMethod::Single, row.size_bytes);
            let mut tx = build.write().await?;
            attachments::wait_longer(&mut tx, row.id, patience).await?;
            build.doubt_store(&mut tx).await?;
            tracing::warn!(file.id = %row.local_file_id, %error, "an attach was not answered in time; the provider is polled for it");
            Ok(tx.commit().await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// How long the files of an attach that was not answered in time (a gateway gave up, say) are searched for before they are
/// asked for again. A server that is known to answer at once shows what it took. One that may answer when a file is indexed
/// has all the time there is, but a batch is an operation of its own, which the server answers before it is done.
pub(super) fn patience_after_timeout(build: &Build<'_>, method: AttachMethod, bytes: u64) -> Duration {
    let longest = build.context.settings.build_indexing_timeout;
    if build.learned.holds(Ability::AttachReturnsEarly) == Some(true) {
        build.observer().apart()
    } else if method == AttachMethod::Single {
        longest
    } else {
        attach_time(bytes).min(longest)
    }
}

/// How long a server may take that answers when a file of this size is indexed.
fn attach_time(size_bytes: u64) -> Duration {
    let for_its_size = Duration::from_secs(size_bytes / ATTACH_BYTES_PER_SECOND);
    (ATTACH_TIME + for_its_size).min(LONGEST_ATTACH)
}

/// An answer that says `in_progress` came early; one that took its time and says that the file is done did not.
async fn learn_from(build: &Build<'_>, status: &StoreFileStatus, took: Duration) -> Result<(), StepError> {
    let (holds, how) = match status {
        StoreFileStatus::InProgress => (true, "an attach was answered while the file was being indexed"),
        _ if status.is_terminal() && took >= SLOW_ANSWER => {
            (false, "an attach was answered when the file was indexed")
        }
        _ => return Ok(()),
    };
    build
        .observer()
        .learn(Ability::AttachReturnsEarly, holds, how)
        .await
}

pub(super) fn warn_unless_applied(applied: bool, files: usize) {
    if !applied {
        tracing::warn!(
            files,
            "the provider attached files without their chunking strategy"
        );
    }
}

/// The provider refused one file, and nothing happened.
async fn refused(build: &Build<'_>, row: &Attachment, error: ProviderError) -> Result<(), StepError> {
    let provider = &build.index.provider_type;
    // "Not found" may be about the store as well. Then no file is lost, and uploading it again would help nobody.
    let is_absent = error.is_absent();
    if is_absent && let Err(error) = store_check::check(build, build.store_id()?).await {
        let mut tx = build.write().await?;
        attachments::mark_pending(&mut tx, &[row.id]).await?;
        tx.commit().await?;
        return Err(error);
    }
    let mut tx = build.write().await?;
    let copy = uploads::find(&mut tx, provider, row.local_file_id).await?;
    let uploaded_at = copy
        .and_then(|copy| copy.external_uploaded_at)
        .unwrap_or(row.created_at);
    let grace = build.provider.capabilities().settle_grace;
    let not_visible_yet = is_absent && age(uploaded_at) < grace;
    if !not_visible_yet && (is_absent || error.disposition() == Disposition::Fail) {
        let seen = Observation {
            state: AttachmentState::Failed,
            external_store_file_id: None,
            reported_strategy: None,
            strategy_applied: None,
            usage_bytes: None,
            error_code: Some(error.kind.as_str()),
            last_error: Some(&error.to_string()),
        };
        attachments::observe(&mut tx, row.id, &seen).await?;
        if is_absent && uploaded_at < build.started_at {
            // Deleted behind our back: this build's next round uploads it again. A copy that this very build made, and that
            // the provider still does not show, has failed: it would be made again without end.
            uploads::mark_lost(&mut tx, provider, &row.external_file_id).await?;
        }
        return Ok(tx.commit().await?);
    }
    attachments::mark_pending(&mut tx, &[row.id]).await?;
    tx.commit().await?;
    if is_absent {
        return Err(StepError::snooze(
            NOT_VISIBLE_YET,
            "the provider does not show an uploaded file yet",
        ));
    }
    Err(error.into())
}

/// What of the attach is the file's own.
pub(super) fn request(build: &Build<'_>, row: &Attachment) -> AttachFile {
    let mut attributes = Attributes::default();
    // Only where search could not be mapped back otherwise.
    if build.learned.holds(Ability::SearchFileIds) == Some(false) {
        attributes.insert("file_id".to_owned(), row.external_file_id.clone().into());
    }
    AttachFile {
        file_id: row.external_file_id.clone(),
        attributes,
        chunking_strategy: row.chunking_strategy,
        time: None,
    }
}
