//! `rag_provider_backoffs`: how a fleet backs off from rate limits that come without a hint. Times are the database's, as in
//! [`crate::budgets`].

use std::time::Duration;

use sqlx::{FromRow, MySqlConnection};

use crate::DbError;
use crate::budgets::{NOW_US, micros};

/// More doublings than any pause needs.
const MAX_STREAK: u32 = 16;

/// What is known of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    pub operation: String,
    /// No process sends it for so long; zero: every process may.
    pub wait: Duration,
    /// Refused so often in a row.
    pub streak: u32,
}

#[derive(FromRow)]
struct Row {
    operation: String,
    wait_us: i64,
    streak: u32,
}

/// Every operation of a provider that was refused lately.
pub async fn list(db: &mut MySqlConnection, provider: &str) -> Result<Vec<Backoff>, DbError> {
    let sql = format!(
        "SELECT operation, CAST(GREATEST(until_us - {NOW_US}, 0) AS SIGNED) AS wait_us, streak \
         FROM rag_provider_backoffs WHERE provider_id = ? AND (streak > 0 OR until_us > {NOW_US})"
    );
    let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(provider)
        .fetch_all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Backoff {
            operation: row.operation,
            wait: Duration::from_micros(row.wait_us.unsigned_abs()),
            streak: row.streak,
        })
        .collect())
}

/// The operation was refused: it pauses for `base`, twice as long with each further time in a row, at most `longest`, all
/// times `jitter`. What is refused during a pause was on its way, and makes it no longer. Answers the pause.
pub async fn refused(
    db: &mut MySqlConnection,
    provider: &str,
    operation: &str,
    (base, longest): (Duration, Duration),
    jitter: f64,
) -> Result<Duration, DbError> {
    // Assignments are made from left to right, each with the values before it.
    let sql = format!(
        "INSERT INTO rag_provider_backoffs (provider_id, operation, streak, until_us) VALUES (?, ?, 1, {NOW_US} + ?) \
         ON DUPLICATE KEY UPDATE streak = IF(until_us > {NOW_US}, streak, LEAST(streak + 1, {MAX_STREAK})), \
           until_us = IF(until_us > {NOW_US}, until_us, \
             {NOW_US} + CAST(LEAST(? * POW(2, streak - 1), ?) * ? AS SIGNED))"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(provider)
        .bind(operation)
        .bind(micros(base.mul_f64(jitter)))
        .bind(micros(base))
        .bind(micros(longest))
        .bind(jitter)
        .execute(&mut *db)
        .await?;
    let found = list(db, provider).await?;
    let own = found.into_iter().find(|backoff| backoff.operation == operation);
    Ok(own.map_or(base, |backoff| backoff.wait))
}

/// The operation was taken: the next pause is shorter.
pub async fn accepted(db: &mut MySqlConnection, provider: &str, operation: &str) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_backoffs SET streak = streak DIV 2 \
         WHERE provider_id = ? AND operation = ? AND streak > 0",
    )
    .bind(provider)
    .bind(operation)
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets all of them: the connection is another one.
pub async fn forget(db: &mut MySqlConnection, provider: &str) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_provider_backoffs WHERE provider_id = ?")
        .bind(provider)
        .execute(db)
        .await?;
    Ok(())
}
