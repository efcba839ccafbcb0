//! What we made at a provider and no row of ours speaks of: found, reported, and deleted if that is wanted.
//!
//! Reads traces, copies, attachments, indexes and intents. Writes deletion intents and traces, in `delete` mode alone. Calls
//! list of stores and of files, then deletes. Safe to repeat because it decides from rows.
//!
//! Nothing is deleted that a trace does not prove to be ours (`rag_db::traces`): a store by its id or its tag, a file by its
//! id. A file of which we never heard (its upload's answer was lost, or its worker was killed) has no id that we know, and
//! carries no mark: providers take none, and its name is its users'. A file with the name and size of such an upload, made in
//! the time in which that can have arrived, is reported as `unproven` with what is known of the upload; it is deleted if an
//! admin confirms its id, and by nobody else. What is young is left alone, since it may be work in flight. A listing that
//! fails, or is not complete, ends the search before anything is decided.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use rag_db::indexes;
use rag_db::intents::{self, Operation};
use rag_db::traces::{self, Kind, Unheard};
use rag_domain::{IndexId, IntentId};
use rag_jobs::OrphanMode;
use rag_providers::{Order, Page, PageRequest, ProviderError, paging};
use serde::Serialize;
use sqlx::MySqlConnection;

use super::deletions::{Site, delete_retired};
use super::{Scope, adopt, ensure_vector_store};
use crate::halt::Halt;

/// How long after an upload was looked for in vain it may still arrive.
const LANDING: TimeDelta = TimeDelta::hours(1);
/// Ids per statement.
const PORTION: usize = 500;
/// Findings in the report; their numbers count all.
const NAMED: usize = 1000;
/// Uploads that were never heard of, per search; what is more waits for the next.
const UNHEARD: u32 = 10_000;

/// What a search found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    mode: &'static str,
    stores: Counts,
    files: Counts,
    /// What was found, as far as it fits; the counts are complete.
    items: Vec<Item>,
    items_total: usize,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    /// At the provider.
    listed: usize,
    /// That rows of ours speak of.
    referenced: usize,
    /// That we made, and that no row speaks of, for so long that it is no work in flight.
    orphans: usize,
    /// Orphans of too little age.
    young: usize,
    /// Orphans that wait to be deleted already.
    waiting: usize,
    /// Stores that carry a tag like ours, and files like an upload of which we never heard, of which nothing proves that they
    /// are ours: another installation's, or of before a backup. Deleted only if an admin confirms them.
    unproven: usize,
    /// Orphans that were deleted, or will be.
    deleted: usize,
}

#[derive(Debug, Serialize)]
struct Item {
    kind: &'static str,
    id: String,
    name: Option<String>,
    created_at: Option<DateTime<Utc>>,
    /// made: we know its id; tag: it carries a tag that we gave out; confirmed: an admin says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'static str>,
    /// orphan | young | unproven | deleted
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    /// Uploads whose copy it may be: same name, same size, and a time that fits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    may_be_of: Vec<LostUpload>,
}

/// An upload whose outcome nobody heard.
#[derive(Debug, Serialize)]
struct LostUpload {
    file_id: Option<String>,
    sha256: Option<String>,
    begun_at: DateTime<Utc>,
}

/// A store or file as it was listed, as much of it as is decided by.
#[derive(Debug, Clone)]
struct Listed {
    id: String,
    name: String,
    size_bytes: u64,
    created_at: Option<DateTime<Utc>>,
    tag: Option<String>,
    index_id: Option<String>,
}

/// Searches one provider. `confirmed`: ids of unproven files of which an admin says that they are ours; they are deleted.
pub(crate) async fn reconcile(
    scope: &Scope<'_>,
    mode: OrphanMode,
    confirmed: &HashSet<String>,
) -> Result<Report, Halt> {
    let began = Utc::now();
    let stores = list_stores(scope).await?;
    let files = list_files(scope).await?;
    let mut search = Search {
        scope,
        mode,
        confirmed,
        began,
        min_age: TimeDelta::from_std(scope.context.settings.orphans_min_age).unwrap_or(TimeDelta::MAX),
        report: Report::default(),
    };
    search.report.mode = match mode {
        OrphanMode::Report => "report",
        OrphanMode::Delete => "delete",
    };
    search.stores(&stores).await?;
    search.files(&files).await?;
    if mode == OrphanMode::Delete || !confirmed.is_empty() {
        delete_retired(Site::from(scope), 20).await?;
    }
    scope.check_running()?;
    Ok(search.report)
}

async fn list_stores(scope: &Scope<'_>) -> Result<Vec<Listed>, Halt> {
    let provider = scope.provider.as_ref();
    let limit = provider.capabilities().max_page_items;
    let fetch = async |after| {
        let page = provider.list_vector_stores(oldest_first(limit, after)).await?;
        let slim = |store: rag_providers::VectorStore| Listed {
            tag: adopt::tag_of(&store).map(str::to_owned),
            index_id: store
                .metadata
                .get(ensure_vector_store::TAG_INDEX)
                .and_then(|value| value.as_str())
                .map(str::to_owned),
            name: store.name,
            id: store.id,
            size_bytes: 0,
            created_at: store.created_at,
        };
        Ok::<_, ProviderError>(Page {
            items: page.items.into_iter().map(slim).collect(),
            next: page.next,
        })
    };
    Ok(paging::walk_pages(rag_providers::Operation::ListVectorStores, fetch).await?)
}

async fn list_files(scope: &Scope<'_>) -> Result<Vec<Listed>, Halt> {
    let provider = scope.provider.as_ref();
    let limit = provider.capabilities().max_file_page_items;
    let fetch = async |after| {
        let page = provider.list_files(oldest_first(limit, after)).await?;
        let slim = |file: rag_providers::ProviderFile| Listed {
            id: file.id,
            name: file.file_name,
            size_bytes: file.size_bytes,
            created_at: file.created_at,
            tag: None,
            index_id: None,
        };
        Ok::<_, ProviderError>(Page {
            items: page.items.into_iter().map(slim).collect(),
            next: page.next,
        })
    };
    Ok(paging::walk_pages(rag_providers::Operation::ListFiles, fetch).await?)
}

fn oldest_first(limit: u32, after: Option<rag_providers::Cursor>) -> PageRequest {
    PageRequest {
        limit: Some(limit),
        after,
        order: Some(Order::Ascending),
    }
}

struct Search<'a> {
    scope: &'a Scope<'a>,
    mode: OrphanMode,
    confirmed: &'a HashSet<String>,
    began: DateTime<Utc>,
    min_age: TimeDelta,
    report: Report,
}

impl Search<'_> {
    async fn stores(&mut self, listed: &[Listed]) -> Result<(), Halt> {
        self.report.stores.listed = listed.len();
        let made = self.made(Kind::VectorStore, listed).await?;
        for store in listed {
            self.scope.check_running()?;
            let is_made = made.contains(&store.id);
            if !is_made && store.tag.is_none() {
                continue;
            }
            let mut db = self.scope.context.pool.acquire().await?;
            let verdict = self.judge_store(&mut db, store, is_made).await?;
            drop(db);
            let deleted = verdict == Verdict::Orphan
                && self.mode == OrphanMode::Delete
                && self.retire_store(store, is_made).await?;
            let proof = if is_made { "made" } else { "tag" };
            self.note("vector_store", store, verdict, proof, deleted);
        }
        Ok(())
    }

    /// The order of the questions matters: a store that is recorded between two of them is seen by one of them.
    async fn judge_store(
        &self,
        db: &mut MySqlConnection,
        store: &Listed,
        is_made: bool,
    ) -> Result<Verdict, Halt> {
        let provider = self.scope.provider_type.as_str();
        if let Some(tag) = &store.tag
            && intents::is_open(db, provider, Operation::CreateVectorStore, tag).await?
        {
            return Ok(Verdict::Referenced);
        }
        if intents::is_store_referenced(db, provider, &store.id).await? {
            return Ok(Verdict::Referenced);
        }
        if intents::is_store_retired(db, provider, &store.id).await? {
            return Ok(Verdict::Waiting);
        }
        let is_ours = is_made
            || match &store.tag {
                Some(tag) => traces::is_our_tag(db, provider, tag).await?,
                None => false,
            };
        Ok(self.by_age(is_ours, store))
    }

    /// Under the lock of the index that it was made for, as everybody who retires or adopts one.
    async fn retire_store(&self, store: &Listed, is_made: bool) -> Result<bool, Halt> {
        let Some(index_id) = store
            .index_id
            .as_deref()
            .and_then(|id| id.parse::<IndexId>().ok())
        else {
            return Ok(false);
        };
        let mut tx = self.scope.context.pool.begin().await?;
        indexes::lock_any(&mut tx, index_id).await?;
        self.scope.claim.fence(&mut tx).await?;
        if self.judge_store(&mut tx, store, is_made).await? != Verdict::Orphan {
            return Ok(false);
        }
        intents::retire_orphaned_store(&mut tx, &self.scope.provider_type, &store.id).await?;
        tx.commit().await?;
        tracing::warn!(store = store.id, "an orphaned vector store will be deleted");
        Ok(true)
    }

    async fn files(&mut self, listed: &[Listed]) -> Result<(), Halt> {
        self.report.files.listed = listed.len();
        let made = self.made(Kind::File, listed).await?;
        let mut strangers = Vec::new();
        for file in listed {
            if !made.contains(&file.id) {
                strangers.push(file);
                continue;
            }
            self.scope.check_running()?;
            let mut db = self.scope.context.pool.acquire().await?;
            let verdict = self.judge_file(&mut db, file).await?;
            drop(db);
            let deleted = verdict == Verdict::Orphan
                && self.mode == OrphanMode::Delete
                && self.retire_file(file).await?;
            self.note("file", file, verdict, "made", deleted);
        }
        self.unheard(&strangers).await
    }

    async fn judge_file(&self, db: &mut MySqlConnection, file: &Listed) -> Result<Verdict, Halt> {
        let provider = self.scope.provider_type.as_str();
        if intents::is_file_in_use(db, provider, &file.id).await? {
            return Ok(Verdict::Referenced);
        }
        if intents::is_file_referenced(db, provider, &file.id).await? {
            return Ok(Verdict::Waiting);
        }
        Ok(self.by_age(true, file))
    }

    /// Files that came to light after their uploads had been given up.
    async fn unheard(&mut self, strangers: &[&Listed]) -> Result<(), Halt> {
        let provider = self.scope.provider_type.as_str();
        let mut db = self.scope.context.pool.acquire().await?;
        let uploads = traces::list_unheard(&mut db, provider, UNHEARD).await?;
        drop(db);
        let mut alike: HashMap<(&str, u64), Vec<&Unheard>> = HashMap::new();
        for upload in &uploads {
            let key = (upload.file_name.as_str(), upload.size_bytes);
            alike.entry(key).or_default().push(upload);
        }
        let mut found: HashMap<(&str, u64), Vec<&Listed>> = HashMap::new();
        let mut suspected: HashSet<IntentId> = HashSet::new();
        for file in strangers {
            let key = (file.name.as_str(), file.size_bytes);
            let fits = |upload: &&Unheard| can_have_made(upload, file.created_at);
            let uploads = alike.get(&key).map_or(&[][..], Vec::as_slice);
            let fitting: Vec<_> = uploads.iter().copied().filter(fits).collect();
            if !fitting.is_empty() {
                suspected.extend(fitting.iter().map(|upload| upload.id));
                found.entry(key).or_default().push(file);
            }
        }
        for (key, candidates) in &found {
            self.scope.check_running()?;
            let uploads = alike.get(key).map_or(&[][..], Vec::as_slice);
            self.judge_unheard(uploads, candidates).await?;
        }
        self.forget_late(&uploads, &suspected).await
    }

    async fn judge_unheard(&mut self, uploads: &[&Unheard], candidates: &[&Listed]) -> Result<(), Halt> {
        for file in candidates {
            let mut db = self.scope.context.pool.acquire().await?;
            let verdict = self.judge_file(&mut db, file).await?;
            drop(db);
            if matches!(verdict, Verdict::Referenced | Verdict::Waiting) {
                continue;
            }
            let is_confirmed = self.confirmed.contains(&file.id);
            let deleted = is_confirmed && self.retire_file(file).await?;
            let verdict = if deleted {
                Verdict::Orphan
            } else {
                Verdict::Unproven
            };
            self.note("file", file, verdict, "confirmed", deleted);
            if let Some(item) = self.report.items.last_mut().filter(|item| item.id == file.id) {
                item.size_bytes = Some(file.size_bytes);
                item.may_be_of = uploads
                    .iter()
                    .filter(|upload| can_have_made(upload, file.created_at))
                    .map(|upload| LostUpload {
                        file_id: upload.file_id.clone(),
                        sha256: upload.content_sha256.clone(),
                        begun_at: upload.begun_at,
                    })
                    .collect();
            }
        }
        Ok(())
    }

    async fn retire_file(&self, file: &Listed) -> Result<bool, Halt> {
        let provider = self.scope.provider_type.as_str();
        let mut tx = self.scope.write().await?;
        let retired = intents::retire_file(&mut tx, provider, &file.id).await?;
        tx.commit().await?;
        if retired {
            tracing::warn!(external_file_id = file.id, "an orphaned file will be deleted");
        }
        Ok(retired)
    }

    /// Uploads that can't arrive any more, and of which a complete listing shows nothing: they came to nothing.
    async fn forget_late(&self, uploads: &[Unheard], suspected: &HashSet<IntentId>) -> Result<(), Halt> {
        if self.mode != OrphanMode::Delete {
            return Ok(());
        }
        let mut tx = self.scope.write().await?;
        for upload in uploads.iter().filter(|upload| !suspected.contains(&upload.id)) {
            if upload.settled_at + LANDING + self.min_age + adopt::CLOCK_SKEW < self.began {
                traces::delete_unheard(&mut tx, upload.id).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    async fn made(&self, kind: Kind, listed: &[Listed]) -> Result<HashSet<String>, Halt> {
        let mut made = HashSet::new();
        let mut db = self.scope.context.pool.acquire().await?;
        for portion in listed.chunks(PORTION) {
            let ids: Vec<&str> = portion.iter().map(|item| item.id.as_str()).collect();
            made.extend(traces::list_made(&mut db, &self.scope.provider_type, kind, &ids).await?);
        }
        Ok(made)
    }

    fn by_age(&self, is_ours: bool, item: &Listed) -> Verdict {
        if !is_ours {
            return Verdict::Unproven;
        }
        match item.created_at {
            Some(at) if at + self.min_age < self.began => Verdict::Orphan,
            // Without a time nobody knows whether it is in flight.
            _ => Verdict::Young,
        }
    }

    fn note(
        &mut self,
        kind: &'static str,
        item: &Listed,
        verdict: Verdict,
        proof: &'static str,
        deleted: bool,
    ) {
        let counts = match kind {
            "file" => &mut self.report.files,
            _ => &mut self.report.stores,
        };
        let word = match verdict {
            Verdict::Referenced => {
                counts.referenced += 1;
                return;
            }
            Verdict::Waiting => {
                counts.waiting += 1;
                return;
            }
            Verdict::Young => {
                counts.young += 1;
                "young"
            }
            Verdict::Unproven => {
                counts.unproven += 1;
                "unproven"
            }
            Verdict::Orphan => {
                counts.orphans += 1;
                counts.deleted += usize::from(deleted);
                if deleted { "deleted" } else { "orphan" }
            }
        };
        self.report.items_total += 1;
        if self.report.items.len() < NAMED {
            self.report.items.push(Item {
                kind,
                id: item.id.clone(),
                name: Some(item.name.clone()).filter(|name| !name.is_empty()),
                created_at: item.created_at,
                proof: (verdict != Verdict::Unproven).then_some(proof),
                verdict: word,
                size_bytes: None,
                may_be_of: Vec::new(),
            });
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Referenced,
    Waiting,
    Young,
    Unproven,
    Orphan,
}

/// Made between the intent and the end of the time in which it may still have arrived.
fn can_have_made(upload: &Unheard, created_at: Option<DateTime<Utc>>) -> bool {
    created_at.is_some_and(|at| {
        at >= upload.begun_at - adopt::CLOCK_SKEW && at <= upload.settled_at + LANDING + adopt::CLOCK_SKEW
    })
}
