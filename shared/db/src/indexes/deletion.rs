//! Indexes whose deletion was requested: hidden at once, and removed when the provider is clean.

use chrono::{DateTime, Utc};
use rag_domain::{DomainId, IndexId};
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use super::{COLUMNS, Index};
use crate::DbError;
use crate::sql::{Text, exactly_one};

/// An index whose deletion was asked for: hidden from everything but its deletion.
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

/// Removes what is left of an index whose deletion is done, its links, builds and polls included.
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
