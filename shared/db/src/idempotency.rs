//! `rag_idempotency_keys`: which creating requests are being carried out, and what the others were answered.

use sqlx::{FromRow, MySqlConnection};

use crate::DbError;

/// A request in progress renews its row more often than this, unless its process is gone.
const ABANDONED_SECONDS: u32 = 30;
const KEPT_HOURS: u32 = 24;
const PRUNED_AT_ONCE: u32 = 1000;

/// What a request was answered.
#[derive(Debug, Clone, FromRow)]
pub struct Answer {
    /// SHA-256 of the request.
    pub fingerprint: Vec<u8>,
    pub status: u16,
    pub content_type: Option<String>,
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// What has become of a key.
#[derive(Debug, Clone)]
pub enum Taken {
    /// It is the caller's now: carry out the request, and [`finish`] or [`release`] it.
    Yours,
    /// Another request with the key is being carried out.
    InProgress,
    Answered(Answer),
}

/// Takes the key (the SHA-256 of domain and key) for `owner`, unless somebody has it or had it within a day.
pub async fn take(db: &mut MySqlConnection, id: &[u8; 32], owner: &[u8; 16]) -> Result<Taken, DbError> {
    // One statement: those who come at the same time wait for the first one's insert, not for its request.
    sqlx::query(
        "INSERT INTO rag_idempotency_keys (id, owner, seen_at, created_at) VALUES (?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE \
           owner = IF((status IS NULL AND seen_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND) \
                      OR created_at < UTC_TIMESTAMP(6) - INTERVAL ? HOUR, VALUES(owner), owner), \
           status = IF(owner = VALUES(owner), NULL, status), \
           seen_at = IF(owner = VALUES(owner), VALUES(seen_at), seen_at), \
           created_at = IF(owner = VALUES(owner), VALUES(created_at), created_at)",
    )
    .bind(&id[..])
    .bind(&owner[..])
    .bind(ABANDONED_SECONDS)
    .bind(KEPT_HOURS)
    .execute(&mut *db)
    .await?;
    let row: Option<(Vec<u8>, Option<u16>)> =
        sqlx::query_as("SELECT owner, status FROM rag_idempotency_keys WHERE id = ?")
            .bind(&id[..])
            .fetch_optional(&mut *db)
            .await?;
    match row {
        Some((of, None)) if of == owner => Ok(Taken::Yours),
        Some((_, Some(_))) => {
            let answer = sqlx::query_as(
                "SELECT fingerprint, status, content_type, location, body FROM rag_idempotency_keys \
                 WHERE id = ? AND status IS NOT NULL",
            )
            .bind(&id[..])
            .fetch_optional(db)
            .await?;
            Ok(answer.map_or(Taken::InProgress, Taken::Answered))
        }
        // In progress, or released between the two statements.
        _ => Ok(Taken::InProgress),
    }
}

/// The request is still being carried out.
pub async fn renew(db: &mut MySqlConnection, id: &[u8; 32], owner: &[u8; 16]) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_idempotency_keys SET seen_at = UTC_TIMESTAMP(6) WHERE id = ? AND owner = ? AND status IS NULL",
    )
    .bind(&id[..])
    .bind(&owner[..])
    .execute(db)
    .await?;
    Ok(())
}

/// Remembers the answer; best within the transaction that writes what it tells of, so that both are there or neither. The
/// answer says whether the key was still the request's own, and had no answer yet.
pub async fn finish(
    db: &mut MySqlConnection,
    id: &[u8; 32],
    owner: &[u8; 16],
    answer: &Answer,
) -> Result<bool, DbError> {
    let result = sqlx::query(
        "UPDATE rag_idempotency_keys SET fingerprint = ?, status = ?, content_type = ?, location = ?, body = ? \
         WHERE id = ? AND owner = ? AND status IS NULL",
    )
    .bind(&answer.fingerprint)
    .bind(answer.status)
    .bind(&answer.content_type)
    .bind(&answer.location)
    .bind(&answer.body)
    .bind(&id[..])
    .bind(&owner[..])
    .execute(db)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Nothing was created: the next request with the key is carried out.
pub async fn release(db: &mut MySqlConnection, id: &[u8; 32], owner: &[u8; 16]) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_idempotency_keys WHERE id = ? AND owner = ? AND status IS NULL")
        .bind(&id[..])
        .bind(&owner[..])
        .execute(db)
        .await?;
    Ok(())
}

/// Removes rows that are older than a day; answers how many, at most a thousand.
pub async fn prune(db: &mut MySqlConnection) -> Result<u64, DbError> {
    let sql = "DELETE FROM rag_idempotency_keys WHERE created_at < UTC_TIMESTAMP(6) - INTERVAL ? HOUR \
               ORDER BY created_at LIMIT ?";
    let result = sqlx::query(sql)
        .bind(KEPT_HOURS)
        .bind(PRUNED_AT_ONCE)
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}
