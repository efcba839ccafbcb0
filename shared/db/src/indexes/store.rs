//! The vector store of an index: its id, and what the provider made of its settings.

use rag_domain::{DomainId, IndexId, StoreSettings};
use sqlx::types::Json;
use sqlx::{FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, exactly_one};

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
