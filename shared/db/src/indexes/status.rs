//! Moves of `indexing_status`, and the errors that an index shows.

use chrono::{DateTime, Utc};
use rag_domain::{IndexId, IndexingStatus};
use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::DbError;
use crate::sql::{Move, Text, exactly_one, make_move};

/// A build begins: `in_progress`, `indexed_at` is now, the last error is history.
pub async fn mark_in_progress(db: &mut MySqlConnection, id: IndexId) -> Result<(), DbError> {
    let Move { set, legal } = make_move("indexing_status", &IndexingStatus::BEGIN);
    let sql = format!(
        "UPDATE rag_indexes SET {set}, indexed_at = UTC_TIMESTAMP(6), last_error = NULL WHERE id = ? AND {legal}"
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
    let end = status.build_end().ok_or_else(|| DbError::Conflict {
        what: "index",
        id: id.to_string(),
    })?;
    let Move { set, legal } = make_move("indexing_status", &end);
    let sql = format!("UPDATE rag_indexes SET {set}, last_error = ? WHERE id = ? AND {legal}");
    let result = sqlx::query(AssertSqlSafe(sql))
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

/// What a sync found about the index as a whole. `indexed_at`: its new value, if it changes.
///
/// An index that was never built passes through `in_progress`, because nothing is done or failed that never was.
pub async fn mark_seen(
    db: &mut MySqlConnection,
    id: IndexId,
    status: IndexingStatus,
    last_error: Option<&str>,
    indexed_at: Option<DateTime<Utc>>,
) -> Result<(), DbError> {
    if status != IndexingStatus::NotIndexed {
        let Move { set, legal } = make_move("indexing_status", &IndexingStatus::OPEN);
        let sql = format!("UPDATE rag_indexes SET {set} WHERE id = ? AND {legal}");
        sqlx::query(AssertSqlSafe(sql))
            .bind(Text(id))
            .execute(&mut *db)
            .await?;
    }
    let Move { set, legal } = make_move("indexing_status", &status.observed());
    let sql = format!(
        "UPDATE rag_indexes SET {set}, last_error = ?, indexed_at = COALESCE(?, indexed_at), \
         updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND {legal}"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(last_error)
        .bind(indexed_at)
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "index", id)
}
