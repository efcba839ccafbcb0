//! `rag_indexes`: knowledge bases and where their indexing stands.
//!
//! A row with `deleted_at` is hidden from every function here that takes a domain.

use chrono::{DateTime, Utc};
use rag_domain::{ChunkingStrategy, DomainId, IndexId, IndexingStatus, StoreSettings};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, exactly_one, in_list, newest_first};

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
    /// What is wrong with it, whoever met it last: a build, else a sync, else a search.
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
    let sql =
        format!("SELECT {COLUMNS} FROM rag_indexes WHERE id = ? AND domain_id = ? AND deleted_at IS NULL");
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
/// Whoever enqueues a job for an index, changes its composition or ends its build takes this lock first: so a change is
/// either seen by the build that is about to end, or finds that build ended.
pub async fn find_for_update(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: IndexId,
) -> Result<Option<Index>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_indexes WHERE id = ? AND domain_id = ? AND deleted_at IS NULL FOR UPDATE"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .bind(domain.as_str())
        .fetch_optional(db)
        .await?)
}

/// As [`find_for_update`], and errors if there is none.
pub async fn lock(db: &mut MySqlConnection, domain: &DomainId, id: IndexId) -> Result<Index, DbError> {
    find_for_update(db, domain, id)
        .await?
        .ok_or(DbError::NotFound("index"))
}

/// Newest first; `before` is the (created_at, id) of the last row of the page before. `name`: only indexes whose name has
/// this part, in whatever case.
pub async fn list(
    db: &mut MySqlConnection,
    domain: &DomainId,
    name: Option<&str>,
    before: Option<(DateTime<Utc>, IndexId)>,
    limit: u32,
) -> Result<Vec<Index>, DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_indexes WHERE deleted_at IS NULL AND domain_id = ");
    query.push_bind(domain.as_str().to_owned());
    if let Some(name) = name {
        query
            .push(" AND INSTR(LOWER(name), LOWER(")
            .push_bind(name.to_owned())
            .push(")) > 0");
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

/// An index whose deletion was asked for: hidden from everybody but who carries the deletion out.
#[derive(Debug, Clone, FromRow)]
pub struct Tombstone {
    #[sqlx(flatten)]
    pub index: Index,
    pub deleted_at: DateTime<Utc>,
}

/// Deletion was asked for: from now on no function here that takes a domain sees the index.
pub async fn mark_deleted(db: &mut MySqlConnection, domain: &DomainId, id: IndexId) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_indexes SET deleted_at = UTC_TIMESTAMP(6) WHERE id = ? AND domain_id = ? AND deleted_at IS NULL",
    )
    .bind(Text(id))
    .bind(domain.as_str())
    .execute(db)
    .await?;
    exactly_one(&result, "index", id)
}

/// The index, if its deletion was asked for and is not done; locked until the transaction ends.
pub async fn find_tombstone_for_update(
    db: &mut MySqlConnection,
    id: IndexId,
) -> Result<Option<Tombstone>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS}, deleted_at FROM rag_indexes WHERE id = ? AND deleted_at IS NOT NULL FOR UPDATE"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .fetch_optional(db)
        .await?)
}

/// Locks the index's row, hidden or not, if there is one.
pub async fn lock_any(db: &mut MySqlConnection, id: IndexId) -> Result<(), DbError> {
    sqlx::query("SELECT 1 FROM rag_indexes WHERE id = ? FOR UPDATE")
        .bind(Text(id))
        .fetch_optional(db)
        .await?;
    Ok(())
}

/// The indexes whose deletion is not done, the longest deleted first; `after` is the (deleted_at, id) of the last row of the
/// page before.
pub async fn list_tombstones(
    db: &mut MySqlConnection,
    provider: Option<&str>,
    after: Option<(DateTime<Utc>, IndexId)>,
    limit: u32,
) -> Result<Vec<Tombstone>, DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(", deleted_at FROM rag_indexes WHERE deleted_at IS NOT NULL");
    if let Some(provider) = provider {
        query.push(" AND provider_type = ").push_bind(provider.to_owned());
    }
    if let Some((deleted_at, id)) = after {
        query.push(" AND (deleted_at, id) > (").push_bind(deleted_at);
        query.push(", ").push_bind(Text(id)).push(")");
    }
    query.push(" ORDER BY deleted_at, id LIMIT ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Removes what is left of an index whose deletion is done, its links, builds and looks included.
pub async fn delete_tombstone(db: &mut MySqlConnection, id: IndexId) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_index_files WHERE index_id = ?")
        .bind(Text(id))
        .execute(&mut *db)
        .await?;
    sqlx::query("DELETE FROM rag_index_builds WHERE index_id = ?")
        .bind(Text(id))
        .execute(&mut *db)
        .await?;
    sqlx::query("DELETE FROM rag_store_polls WHERE index_id = ?")
        .bind(Text(id))
        .execute(&mut *db)
        .await?;
    let result = sqlx::query("DELETE FROM rag_indexes WHERE id = ? AND deleted_at IS NOT NULL")
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "index", id)
}

/// Removes the row. The caller has made sure that nothing of the index is left at the provider.
pub async fn delete(db: &mut MySqlConnection, domain: &DomainId, id: IndexId) -> Result<(), DbError> {
    let result = sqlx::query("DELETE FROM rag_indexes WHERE id = ? AND domain_id = ?")
        .bind(Text(id))
        .bind(domain.as_str())
        .execute(db)
        .await?;
    exactly_one(&result, "index", id)
}

/// A build begins: `in_progress`, `indexed_at` is now, the last error is history.
pub async fn mark_in_progress(db: &mut MySqlConnection, id: IndexId) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_indexes SET indexing_status = 'in_progress', indexed_at = UTC_TIMESTAMP(6), last_error = NULL \
         WHERE id = ? AND indexing_status IN {}",
        in_list(IndexingStatus::InProgress.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql)).bind(Text(id)).execute(db).await?;
    exactly_one(&result, "index", id)
}

/// A build ends: `done` or `failed`, from `in_progress` alone.
pub async fn mark_built(
    db: &mut MySqlConnection,
    id: IndexId,
    status: IndexingStatus,
    last_error: Option<&str>,
) -> Result<(), DbError> {
    debug_assert!(
        matches!(status, IndexingStatus::Done | IndexingStatus::Failed),
        "a build ends done or failed"
    );
    let result = sqlx::query(
        "UPDATE rag_indexes SET indexing_status = ?, last_error = ? WHERE id = ? AND indexing_status = 'in_progress'",
    )
    .bind(Text(status))
    .bind(last_error)
    .bind(Text(id))
    .execute(db)
    .await?;
    exactly_one(&result, "index", id)
}

/// A build met an error, and goes on later. Nothing is written unless the index is `in_progress`.
pub async fn note_build_error(
    db: &mut MySqlConnection,
    id: IndexId,
    error: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_indexes SET last_error = ?, updated_at = updated_at WHERE id = ? AND indexing_status = 'in_progress'",
    )
    .bind(error)
    .bind(Text(id))
    .execute(db)
    .await?;
    Ok(())
}

/// How the last sync of an index went: with this error, or none.
pub async fn set_sync_error(
    db: &mut MySqlConnection,
    id: IndexId,
    error: Option<&str>,
) -> Result<(), DbError> {
    set_error(db, "sync_error", id, error).await
}

/// How the last search of an index, or live listing of its files, went: with this error, or none.
pub async fn set_query_error(
    db: &mut MySqlConnection,
    id: IndexId,
    error: Option<&str>,
) -> Result<(), DbError> {
    set_error(db, "query_error", id, error).await
}

async fn set_error(
    db: &mut MySqlConnection,
    column: &'static str,
    id: IndexId,
    error: Option<&str>,
) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_indexes SET {column} = ?, updated_at = updated_at WHERE id = ? AND NOT {column} <=> ?"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(error)
        .bind(Text(id))
        .bind(error)
        .execute(db)
        .await?;
    Ok(())
}

/// The provider has just told how the index's files fare.
pub async fn set_provider_seen(db: &mut MySqlConnection, id: IndexId) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_indexes SET provider_seen_at = UTC_TIMESTAMP(6), updated_at = updated_at WHERE id = ?",
    )
    .bind(Text(id))
    .execute(db)
    .await?;
    Ok(())
}

/// The store was made (or adopted): only one store ever becomes an index's store.
pub async fn set_external_id(
    db: &mut MySqlConnection,
    id: IndexId,
    external_id: &str,
) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_indexes SET external_id = ?, pushed_settings = NULL, settings_error = NULL, sync_error = NULL, query_error = NULL, store_expired_at = NULL \
         WHERE id = ? AND external_id IS NULL",
    )
        .bind(external_id)
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "index", id)
}

/// The index gives up this store; what becomes of the store itself is the caller's business.
pub async fn clear_external_id(
    db: &mut MySqlConnection,
    id: IndexId,
    external_id: &str,
) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_indexes SET external_id = NULL, pushed_settings = NULL, settings_error = NULL, sync_error = NULL, query_error = NULL, store_expired_at = NULL, \
         store_missed_at = NULL WHERE id = ? AND external_id = ?",
    )
    .bind(Text(id))
    .bind(external_id)
    .execute(db)
    .await?;
    exactly_one(&result, "index", id)
}

/// The store was given these settings, or the provider has not taken them, for this reason.
pub async fn set_pushed_settings(
    db: &mut MySqlConnection,
    id: IndexId,
    settings: Option<&StoreSettings>,
    error: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_indexes SET pushed_settings = ?, settings_error = ?, updated_at = updated_at WHERE id = ?",
    )
    .bind(settings.map(Json))
    .bind(error)
    .bind(Text(id))
    .execute(db)
    .await?;
    Ok(())
}

/// The provider shows this store of the index's as expired, or not. Of another store it says nothing.
pub async fn set_store_expired(
    db: &mut MySqlConnection,
    id: IndexId,
    store: &str,
    expired: bool,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_indexes SET store_expired_at = IF(?, COALESCE(store_expired_at, UTC_TIMESTAMP(6)), NULL), \
           updated_at = updated_at WHERE id = ? AND external_id = ? AND (store_expired_at IS NOT NULL) <> ?",
    )
    .bind(expired)
    .bind(Text(id))
    .bind(store)
    .bind(expired)
    .execute(db)
    .await?;
    Ok(())
}

/// The domains in which an index has a store.
pub async fn list_domains_with_stores(db: &mut MySqlConnection) -> Result<Vec<DomainId>, DbError> {
    let domains: Vec<Text<DomainId>> = sqlx::query_scalar(
        "SELECT DISTINCT domain_id FROM rag_indexes WHERE external_id IS NOT NULL AND deleted_at IS NULL ORDER BY domain_id",
    )
    .fetch_all(db)
    .await?;
    Ok(domains.into_iter().map(|domain| domain.0).collect())
}

/// Whose store this is.
#[derive(Debug, Clone, FromRow)]
pub struct StoreOwner {
    #[sqlx(try_from = "Text<IndexId>")]
    pub id: IndexId,
    #[sqlx(try_from = "Text<DomainId>")]
    pub domain_id: DomainId,
    /// Its deletion was asked for.
    pub is_deleted: bool,
}

/// The index with this store, of whatever domain, deleted ones included.
pub async fn find_by_store(
    db: &mut MySqlConnection,
    provider: &str,
    store: &str,
) -> Result<Option<StoreOwner>, DbError> {
    Ok(sqlx::query_as(
        "SELECT id, domain_id, deleted_at IS NOT NULL AS is_deleted FROM rag_indexes \
         WHERE provider_type = ? AND external_id = ? ORDER BY deleted_at IS NOT NULL, created_at LIMIT 1",
    )
    .bind(provider)
    .bind(store)
    .fetch_optional(db)
    .await?)
}

/// Whether there is such an index in any domain, deleted ones included.
pub async fn exists(db: &mut MySqlConnection, id: IndexId) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar("SELECT 1 FROM rag_indexes WHERE id = ?")
        .bind(Text(id))
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// How many indexes have a store at this provider.
pub async fn count_with_store(db: &mut MySqlConnection, provider: &str) -> Result<u64, DbError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM rag_indexes WHERE provider_type = ? AND external_id IS NOT NULL AND deleted_at IS NULL",
    )
    .bind(provider)
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}

/// What a look at the provider says of the index as a whole. `indexed_at`: what it becomes, if anything.
///
/// Nothing is done or failed that was never in progress: an index that was not indexed passes through that state here.
pub async fn mark_seen(
    db: &mut MySqlConnection,
    id: IndexId,
    status: IndexingStatus,
    last_error: Option<&str>,
    indexed_at: Option<DateTime<Utc>>,
) -> Result<(), DbError> {
    if status != IndexingStatus::NotIndexed {
        sqlx::query("UPDATE rag_indexes SET indexing_status = 'in_progress' WHERE id = ? AND indexing_status = 'not_indexed'")
            .bind(Text(id))
            .execute(&mut *db)
            .await?;
    }
    let sql = format!(
        "UPDATE rag_indexes SET indexing_status = ?, last_error = ?, indexed_at = COALESCE(?, indexed_at), \
         updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND (indexing_status = ? OR indexing_status IN {})",
        in_list(status.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(Text(status))
        .bind(last_error)
        .bind(indexed_at)
        .bind(Text(id))
        .bind(Text(status))
        .execute(db)
        .await?;
    exactly_one(&result, "index", id)
}
