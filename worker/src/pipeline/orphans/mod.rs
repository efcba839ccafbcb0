//! What we made at a provider and no row of ours speaks of: found, reported, and deleted if that is wanted.
//!
//! Reads traces, copies, attachments, indexes and intents. Writes deletion intents in `delete` mode alone, and forgets lost
//! uploads that came to nothing. Calls list of stores and of files, on an exclusive account the content of files that may be
//! ours, then deletes. Safe to repeat because it decides from rows.
//!
//! Nothing is deleted that a trace does not prove to be ours (`rag_db::ownership`): a store by its id or its tag, a file by its
//! id. What our uploads of which nobody heard have left there is the matter of `unconfirmed`. What is young is left alone, since it
//! may be work in flight. A listing that fails, or is not complete, ends the search before anything is decided.

mod report;
mod unconfirmed;

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use rag_db::intents::{self, Operation};
use rag_db::ownership::{self, Kind};
use rag_db::{connections, indexes};
use rag_domain::IndexId;
use rag_jobs::OrphanMode;
use rag_providers::{Order, Page, PageRequest, ProviderError, paging};
use sqlx::MySqlConnection;

use super::deletions::{Site, delete_retired};
use super::{Scope, adopt, ensure_vector_store};
use crate::halt::Halt;
use report::{Found, Report, Verdict};

/// Ids per statement.
const PORTION: usize = 500;

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
    let mut db = scope.context.pool.acquire().await?;
    let is_exclusive = connections::is_exclusive(&mut db, &scope.provider_type).await?;
    drop(db);
    let stores = list_stores(scope).await?;
    let files = list_files(scope).await?;
    let mut search = Search {
        scope,
        mode,
        confirmed,
        began,
        is_exclusive,
        min_age: TimeDelta::from_std(scope.context.settings.orphans_min_age).unwrap_or(TimeDelta::MAX),
        report: Report::new(mode),
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
    /// Nobody else works on the account.
    is_exclusive: bool,
    min_age: TimeDelta,
    report: Report,
}

impl Search<'_> {
    async fn stores(&mut self, listed: &[Listed]) -> Result<(), Halt> {
        self.report.listed("vector_store", listed.len());
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
            self.report
                .note("vector_store", store, Found::new(verdict, proof, deleted));
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
                Some(tag) => ownership::is_our_tag(db, provider, tag).await?,
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
        self.report.listed("file", listed.len());
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
            self.report
                .note("file", file, Found::new(verdict, "made", deleted));
        }
        self.unconfirmed(&strangers).await
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

    async fn made(&self, kind: Kind, listed: &[Listed]) -> Result<HashSet<String>, Halt> {
        let mut made = HashSet::new();
        let mut db = self.scope.context.pool.acquire().await?;
        for portion in listed.chunks(PORTION) {
            let ids: Vec<&str> = portion.iter().map(|item| item.id.as_str()).collect();
            made.extend(ownership::list_made(&mut db, &self.scope.provider_type, kind, &ids).await?);
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
}
