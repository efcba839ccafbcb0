//! Files that unconfirmed uploads of ours (whose answers were lost) may have left at a provider.
//!
//! Such a file has no id that we know, and carries no mark: providers take none, and its name is its users'. One with the name
//! and size of an unconfirmed upload, made in the time in which that can have arrived, is proven to be ours by its bytes where the
//! account is exclusively ours. Elsewhere, or where the bytes are not handed out, it is reported as `unproven`, with what is
//! known of the uploads; an admin who knows better confirms its id.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use rag_db::intents;
use rag_db::ownership::{self, Unconfirmed};
use rag_domain::IntentId;
use rag_jobs::OrphanMode;

use super::listed::Listed;
use super::report::{Found, UnconfirmedUpload, Verdict};
use super::search::Search;
use crate::observe::listing::CLOCK_SKEW;
use crate::observe::uploaded_copy;
use crate::step_error::StepError;

/// How long after an upload was searched for without success it may still arrive.
const LANDING: TimeDelta = TimeDelta::hours(1);
/// Unconfirmed uploads per search; what is more waits for the next.
const MAX_UPLOADS: u32 = 10_000;

/// `strangers`: files whose ids we do not know.
pub(super) async fn judge_all(search: &mut Search<'_>, strangers: &[&Listed]) -> Result<(), StepError> {
    let provider = search.scope.provider_type.as_str();
    let mut db = search.scope.context.pool.acquire().await?;
    let uploads = ownership::list_unconfirmed(&mut db, provider, MAX_UPLOADS).await?;
    drop(db);
    let mut alike: HashMap<(&str, u64), Vec<&Unconfirmed>> = HashMap::new();
    for upload in &uploads {
        let key = (upload.file_name.as_str(), upload.size_bytes);
        alike.entry(key).or_default().push(upload);
    }
    let mut suspected: HashSet<IntentId> = HashSet::new();
    for file in strangers {
        let key = (file.name.as_str(), file.size_bytes);
        let fits = |upload: &&Unconfirmed| can_have_made(upload, file.created_at);
        let fitting: Vec<_> = alike
            .get(&key)
            .into_iter()
            .flatten()
            .copied()
            .filter(fits)
            .collect();
        if !fitting.is_empty() {
            search.scope.check_running()?;
            suspected.extend(fitting.iter().map(|upload| upload.id));
            judge(search, file, &fitting).await?;
        }
    }
    forget(search, &uploads, &suspected).await
}

/// `uploads`: those that can have made it.
async fn judge(search: &mut Search<'_>, file: &Listed, uploads: &[&Unconfirmed]) -> Result<(), StepError> {
    let mut db = search.scope.context.pool.acquire().await?;
    let verdict = search.judge_file(&mut db, file).await?;
    drop(db);
    if matches!(verdict, Verdict::Referenced | Verdict::Waiting) {
        return Ok(());
    }
    let found = if search.confirmed.contains(&file.id) {
        let deleted = search.retire_file(file).await?;
        let verdict = if deleted {
            Verdict::Orphan
        } else {
            Verdict::Unproven
        };
        Found::new(verdict, "confirmed", deleted)
    } else if is_proven(search, file, uploads).await? {
        let may_delete = verdict == Verdict::Orphan && search.mode == OrphanMode::Delete;
        let deleted = may_delete && search.retire_file(file).await?;
        Found::new(verdict, "bytes", deleted)
    } else {
        Found::new(Verdict::Unproven, "", false)
    };
    let may_be_of = uploads.iter().map(|upload| UnconfirmedUpload {
        file_id: upload.file_id.clone(),
        sha256: upload.content_sha256.clone(),
        begun_at: upload.begun_at,
    });
    search.report.note("file", file, found.of(may_be_of.collect()));
    Ok(())
}

/// The account is exclusively ours, and the bytes are those of an unconfirmed upload and of none that is under way.
async fn is_proven(search: &Search<'_>, file: &Listed, uploads: &[&Unconfirmed]) -> Result<bool, StepError> {
    if !search.is_exclusive {
        return Ok(false);
    }
    let sums: HashSet<&str> = uploads
        .iter()
        .filter_map(|upload| upload.content_sha256.as_deref())
        .collect();
    if sums.is_empty() {
        return Ok(false);
    }
    let provider = search.scope.provider.as_ref();
    let Some(found) = uploaded_copy::sha256_of(provider, &file.id, file.size_bytes).await else {
        return Ok(false);
    };
    let mut db = search.scope.context.pool.acquire().await?;
    let provider = &search.scope.provider_type;
    Ok(sums.contains(found.as_str())
        && !intents::is_content_uploading(&mut db, provider, &found, None).await?)
}

/// Uploads that can't arrive any more, and of which a complete listing shows nothing: they came to nothing.
async fn forget(
    search: &Search<'_>,
    uploads: &[Unconfirmed],
    suspected: &HashSet<IntentId>,
) -> Result<(), StepError> {
    let mut tx = search.scope.write().await?;
    for upload in uploads.iter().filter(|upload| !suspected.contains(&upload.id)) {
        if upload.resolved_at + LANDING + search.min_age + CLOCK_SKEW < search.began {
            ownership::delete_unconfirmed(&mut tx, upload.id).await?;
        }
    }
    Ok(tx.commit().await?)
}

/// Made between the intent and the end of the time in which it may still have arrived.
fn can_have_made(upload: &Unconfirmed, created_at: Option<DateTime<Utc>>) -> bool {
    created_at.is_some_and(|at| {
        at >= upload.begun_at - CLOCK_SKEW && at <= upload.resolved_at + LANDING + CLOCK_SKEW
    })
}
