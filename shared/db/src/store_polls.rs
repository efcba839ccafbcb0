//! `rag_store_polls`: when each index's store was last polled, and what the poll found.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_domain::IndexId;
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, MySqlConnection};

use crate::sql::Text;
use crate::{DbError, indexes};

/// A row of `rag_store_polls`.
#[derive(Debug, Clone, FromRow)]
pub struct StorePoll {
    pub polled_at: DateTime<Utc>,
    #[sqlx(json)]
    pub report: Value,
}

/// The latest poll, if it is younger than this by the database's clock.
pub async fn find_fresh(
    db: &mut MySqlConnection,
    index: IndexId,
    younger_than: Duration,
) -> Result<Option<StorePoll>, DbError> {
    let micros = i64::try_from(younger_than.as_micros()).unwrap_or(i64::MAX);
    Ok(sqlx::query_as(
        "SELECT polled_at, report FROM rag_store_polls WHERE index_id = ? \
         AND polled_at > UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND",
    )
    .bind(Text(index))
    .bind(micros)
    .fetch_optional(db)
    .await?)
}

/// Records a poll that has just ended. The caller holds the lock of the index.
pub async fn record(
    db: &mut MySqlConnection,
    index: IndexId,
    report: &impl Serialize,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_store_polls (index_id, polled_at, report) VALUES (?, UTC_TIMESTAMP(6), ?) \
         ON DUPLICATE KEY UPDATE polled_at = VALUES(polled_at), report = VALUES(report)",
    )
    .bind(Text(index))
    .bind(Json(report))
    .execute(&mut *db)
    .await?;
    indexes::set_provider_seen(db, index).await
}

/// The index has no store to poll any more.
pub async fn forget(db: &mut MySqlConnection, index: IndexId) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_store_polls WHERE index_id = ?")
        .bind(Text(index))
        .execute(db)
        .await?;
    Ok(())
}

/// Removes polls of indexes that are gone.
pub async fn forget_gone(db: &mut MySqlConnection) -> Result<u64, DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_store_polls WHERE NOT EXISTS \
         (SELECT 1 FROM rag_indexes i WHERE i.id = rag_store_polls.index_id) LIMIT 1000",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
