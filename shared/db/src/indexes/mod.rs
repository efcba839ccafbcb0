//! `rag_indexes`: knowledge bases, their vector stores and their indexing status.
//!
//! A row with `deleted_at` is hidden from every function here that takes a domain.

mod deletion;
mod status;
mod store;

use chrono::{DateTime, Utc};
use rag_domain::{ChunkingStrategy, DomainId, IndexId, IndexingStatus, StoreSettings};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, newest_first};

pub use deletion::{
    Tombstone, delete, delete_tombstone, find_tombstone_for_update, list_tombstones, mark_deleted,
};
pub use status::{
    mark_built, mark_in_progress, mark_seen, note_build_error, set_provider_seen, set_query_error,
    set_sync_error,
};
pub use store::{
    StoreOwner, clear_external_id, count_with_store, find_by_store, list_domains_with_stores,
    set_external_id, set_pushed_settings, set_store_expired,
};

/// A row of `rag_indexes`.
#[derive(Debug, Clone, FromRow)]
pub struct Index {
    #[sqlx(try_from = "Text<IndexId>")]
    pub id: IndexId,
    #[sqlx(try_from = "Text<DomainId>")]
    pub domain_id: DomainId,
    pub name: String,
    pub description: Option<String>,
    pub provider_type: String,
    /// The vector store at the provider.
    pub external_id: Option<String>,
    #[sqlx(json(nullable))]
    pub chunking_strategy: Option<ChunkingStrategy>,
    #[sqlx(json(nullable))]
    pub expires_after: Option<Value>,
    #[sqlx(json(nullable))]
    pub metadata: Option<Value>,
    #[sqlx(try_from = "Text<IndexingStatus>")]
    pub indexing_status: IndexingStatus,
    /// Start of the last indexing attempt.
    pub indexed_at: Option<DateTime<Utc>>,
    /// Of its builds, and of files that failed.
    pub last_error: Option<String>,
    /// Of its last sync.
    pub sync_error: Option<String>,
    /// Of the last search, or live listing of its files.
    pub query_error: Option<String>,
    /// Settings as the store was last given them; `None`: not known.
    #[sqlx(json(nullable))]
    pub pushed_settings: Option<StoreSettings>,
    /// Why the provider did not take them.
    pub settings_error: Option<String>,
    /// When the store was first seen expired.
    pub store_expired_at: Option<DateTime<Utc>>,
    /// Since when the provider has not been seen to have the store; `None`: it was there when last asked for.
    pub store_missed_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Index {
    /// Its error: of the last build, else of the last sync, else of the last search.
    pub fn any_error(&self) -> Option<&str> {
        let errors = [&self.last_error, &self.sync_error, &self.query_error];
        errors.into_iter().find_map(Option::as_deref)
    }

    /// As the store is to have them.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings::of(&self.name, self.expires_after.as_ref(), self.metadata.as_ref())
    }
}

const COLUMNS: &str = "id, domain_id, name, description, provider_type, external_id, chunking_strategy, expires_after, \
     metadata, indexing_status, indexed_at, last_error, sync_error, query_error, pushed_settings, settings_error, store_expired_at, \
     store_missed_at, created_at, updated_at";

/// What a caller gives to make an index.
#[derive(Debug, Clone)]
pub struct NewIndex {
    pub id: IndexId,
    pub domain_id: DomainId,
    pub name: String,
    pub description: Option<String>,
    pub provider_type: String,
    pub chunking_strategy: Option<ChunkingStrategy>,
    pub expires_after: Option<Value>,
    pub metadata: Option<Value>,
}

/// What a caller may change later; `None` leaves a field, `Some(None)` clears it.
#[derive(Debug, Clone, Default)]
pub struct IndexChanges {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub chunking_strategy: Option<Option<ChunkingStrategy>>,
    pub expires_after: Option<Option<Value>>,
    pub metadata: Option<Option<Value>>,
}

pub async fn insert(db: &mut MySqlConnection, index: &NewIndex) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_indexes (id, domain_id, name, description, provider_type, chunking_strategy, expires_after, metadata) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(Text(index.id))
    .bind(index.domain_id.as_str())
    .bind(&index.name)
    .bind(&index.description)
    .bind(&index.provider_type)
    .bind(index.chunking_strategy.map(Json))
    .bind(index.expires_after.as_ref().map(Json))
    .bind(index.metadata.as_ref().map(Json))
    .execute(db)
    .await?;
    Ok(())
}

pub async fn find(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: IndexId,
) -> Result<Option<Index>, DbError> {
    select(db, domain, id, "").await
}

async fn select(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: IndexId,
    lock: &'static str,
) -> Result<Option<Index>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_indexes WHERE id = ? AND domain_id = ? AND deleted_at IS NULL {lock}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .bind(domain.as_str())
        .fetch_optional(db)
        .await?)
}

pub async fn get(db: &mut MySqlConnection, domain: &DomainId, id: IndexId) -> Result<Index, DbError> {
    find(db, domain, id).await?.ok_or(DbError::NotFound("index"))
}

/// As [`find`], and locks the row until the transaction ends.
///
/// Enqueuing a job for an index, changing its composition and ending its build take this lock first: so a change is
/// either seen by the build that is about to end, or finds that build ended.
pub async fn find_for_update(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: IndexId,
) -> Result<Option<Index>, DbError> {
    select(db, domain, id, "FOR UPDATE").await
}

/// As [`find_for_update`], and errors if there is none.
pub async fn lock(db: &mut MySqlConnection, domain: &DomainId, id: IndexId) -> Result<Index, DbError> {
    find_for_update(db, domain, id)
        .await?
        .ok_or(DbError::NotFound("index"))
}

/// Which indexes to list; nothing set: all.
#[derive(Debug, Clone, Default)]
pub struct IndexFilter {
    /// Part of the name, in whatever case.
    pub name: Option<String>,
    pub indexing_status: Option<IndexingStatus>,
}

/// Newest first; `before` is the (created_at, id) of the last row of the page before.
pub async fn list(
    db: &mut MySqlConnection,
    domain: &DomainId,
    filter: &IndexFilter,
    before: Option<(DateTime<Utc>, IndexId)>,
    limit: u32,
) -> Result<Vec<Index>, DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_indexes WHERE deleted_at IS NULL AND domain_id = ");
    query.push_bind(domain.as_str().to_owned());
    if let Some(name) = &filter.name {
        query
            .push(" AND INSTR(LOWER(name), LOWER(")
            .push_bind(name)
            .push(")) > 0");
    }
    if let Some(status) = filter.indexing_status {
        query.push(" AND indexing_status = ").push_bind(Text(status));
    }
    newest_first(&mut query, before, limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

pub async fn update(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: IndexId,
    changes: &IndexChanges,
) -> Result<(), DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("UPDATE rag_indexes SET id = id");
    if let Some(name) = &changes.name {
        query.push(", name = ").push_bind(name);
    }
    if let Some(description) = &changes.description {
        query.push(", description = ").push_bind(description);
    }
    if let Some(strategy) = changes.chunking_strategy {
        query.push(", composition_revision = composition_revision + 1");
        query.push(", chunking_strategy = ").push_bind(strategy.map(Json));
    }
    if let Some(expires_after) = &changes.expires_after {
        query
            .push(", expires_after = ")
            .push_bind(expires_after.as_ref().map(Json));
    }
    if let Some(metadata) = &changes.metadata {
        query.push(", metadata = ").push_bind(metadata.as_ref().map(Json));
    }
    query.push(" WHERE id = ").push_bind(Text(id));
    query
        .push(" AND domain_id = ")
        .push_bind(domain.as_str().to_owned())
        .push(" AND deleted_at IS NULL");
    query.build().execute(db).await?;
    Ok(())
}

/// Locks the index's row, hidden or not, if there is one.
pub async fn lock_any(db: &mut MySqlConnection, id: IndexId) -> Result<(), DbError> {
    sqlx::query("SELECT 1 FROM rag_indexes WHERE id = ? FOR UPDATE")
        .bind(Text(id))
        .fetch_optional(db)
        .await?;
    Ok(())
}

/// Whether there is such an index in any domain, deleted ones included.
pub async fn exists(db: &mut MySqlConnection, id: IndexId) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar("SELECT 1 FROM rag_indexes WHERE id = ?")
        .bind(Text(id))
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}
