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

use super::report::{Found, UnconfirmedUpload, Verdict};
use super::{Listed, Search};
use crate::halt::Halt;
use crate::pipeline::{adopt, proof};

/// How long after an upload was looked for in vain it may still arrive.
const LANDING: TimeDelta = TimeDelta::hours(1);
/// Unconfirmed uploads per search; what is more waits for the next.
const MAX_UPLOADS: u32 = 10_000;

impl Search<'_> {
    /// `strangers`: files of which no id of ours speaks.
    pub(super) async fn unconfirmed(&mut self, strangers: &[&Listed]) -> Result<(), Halt> {
        let provider = self.scope.provider_type.as_str();
        let mut db = self.scope.context.pool.acquire().await?;
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
                self.scope.check_running()?;
                suspected.extend(fitting.iter().map(|upload| upload.id));
                self.judge(file, &fitting).await?;
            }
        }
        self.forget(&uploads, &suspected).await
    }

    /// `uploads`: those that can have made it.
    async fn judge(&mut self, file: &Listed, uploads: &[&Unconfirmed]) -> Result<(), Halt> {
        let mut db = self.scope.context.pool.acquire().await?;
        let verdict = self.judge_file(&mut db, file).await?;
        drop(db);
        if matches!(verdict, Verdict::Referenced | Verdict::Waiting) {
            return Ok(());
        }
        let found = if self.confirmed.contains(&file.id) {
            let deleted = self.retire_file(file).await?;
            let verdict = if deleted {
                Verdict::Orphan
            } else {
                Verdict::Unproven
            };
            Found::new(verdict, "confirmed", deleted)
        } else if self.is_proven(file, uploads).await? {
            let may_delete = verdict == Verdict::Orphan && self.mode == OrphanMode::Delete;
            let deleted = may_delete && self.retire_file(file).await?;
            Found::new(verdict, "bytes", deleted)
        } else {
            Found::new(Verdict::Unproven, "", false)
        };
        let may_be_of = uploads.iter().map(|upload| UnconfirmedUpload {
            file_id: upload.file_id.clone(),
            sha256: upload.content_sha256.clone(),
            begun_at: upload.begun_at,
        });
        self.report.note("file", file, found.of(may_be_of.collect()));
        Ok(())
    }

    /// The account is exclusively ours, and the bytes are those of an unconfirmed upload and of none that is under way.
    async fn is_proven(&self, file: &Listed, uploads: &[&Unconfirmed]) -> Result<bool, Halt> {
        if !self.is_exclusive {
            return Ok(false);
        }
        let sums: HashSet<&str> = uploads
            .iter()
            .filter_map(|upload| upload.content_sha256.as_deref())
            .collect();
        if sums.is_empty() {
            return Ok(false);
        }
        let provider = self.scope.provider.as_ref();
        let Some(found) = proof::sha256_of(provider, &file.id, file.size_bytes).await else {
            return Ok(false);
        };
        let mut db = self.scope.context.pool.acquire().await?;
        let provider = &self.scope.provider_type;
        Ok(sums.contains(found.as_str())
            && !intents::is_content_uploading(&mut db, provider, &found, None).await?)
    }

    /// Uploads that can't arrive any more, and of which a complete listing shows nothing: they came to nothing.
    async fn forget(&self, uploads: &[Unconfirmed], suspected: &HashSet<IntentId>) -> Result<(), Halt> {
        let mut tx = self.scope.write().await?;
        for upload in uploads.iter().filter(|upload| !suspected.contains(&upload.id)) {
            if upload.resolved_at + LANDING + self.min_age + adopt::CLOCK_SKEW < self.began {
                ownership::delete_unconfirmed(&mut tx, upload.id).await?;
            }
        }
        Ok(tx.commit().await?)
    }
}

/// Made between the intent and the end of the time in which it may still have arrived.
fn can_have_made(upload: &Unconfirmed, created_at: Option<DateTime<Utc>>) -> bool {
    created_at.is_some_and(|at| {
        at >= upload.begun_at - adopt::CLOCK_SKEW && at <= upload.resolved_at + LANDING + adopt::CLOCK_SKEW
    })
}
