//! The state of a connection whose account is exhausted, in its row of `rag_provider_connections`: since when, why, and when
//! the fleet tries again. One request does: the one that moves the time of the next try on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, MySqlConnection};

use crate::DbError;

/// An exhausted account.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Block {
    /// `rag_providers::Exhaustion`'s word.
    pub kind: String,
    /// `growth` or `all`: which requests wait.
    pub scope: String,
    /// The provider's words.
    pub reason: String,
    pub since: DateTime<Utc>,
    pub next_try_at: DateTime<Utc>,
    /// Microseconds from now, by the database's clock; not above zero: it is due.
    pub due_in_us: i64,
}

impl Block {
    /// Until the next try; `None`: it is due.
    pub fn due_in(&self) -> Option<Duration> {
        let us = u64::try_from(self.due_in_us).ok().filter(|us| *us > 0)?;
        Some(Duration::from_micros(us))
    }
}

pub async fn find(db: &mut MySqlConnection, provider: &str) -> Result<Option<Block>, DbError> {
    Ok(sqlx::query_as(
        "SELECT blocked_kind AS kind, COALESCE(blocked_scope, 'all') AS scope, COALESCE(blocked_reason, '') AS reason, \
           blocked_since AS since, blocked_next_try_at AS next_try_at, \
           TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), blocked_next_try_at) AS due_in_us \
         FROM rag_provider_connections \
         WHERE id = ? AND blocked_kind IS NOT NULL AND blocked_since IS NOT NULL AND blocked_next_try_at IS NOT NULL",
    )
    .bind(provider)
    .fetch_optional(db)
    .await?)
}

/// The provider says to a client of this `version` of the connection (its `updated_at`) that the account is exhausted; what an
/// older client was told says nothing of a connection that was changed since. The first time sets the next try; what was on its way then, and a try
/// that failed, leave it as it is.
pub async fn set(
    db: &mut MySqlConnection,
    provider: &str,
    version: DateTime<Utc>,
    (kind, scope, reason): (&str, &str, &str),
    first_pause: Duration,
) -> Result<(), DbError> {
    // Assignments are made from left to right, each with the values before it.
    sqlx::query(
        "UPDATE rag_provider_connections SET \
           blocked_next_try_at = IF(blocked_since IS NULL, UTC_TIMESTAMP(6) + INTERVAL ? SECOND, blocked_next_try_at), \
           blocked_tries = IF(blocked_since IS NULL, 0, blocked_tries), \
           blocked_since = COALESCE(blocked_since, UTC_TIMESTAMP(6)), \
           blocked_kind = ?, blocked_scope = ?, blocked_reason = ?, updated_at = updated_at \
         WHERE id = ? AND updated_at = ?",
    )
    .bind(first_pause.as_secs())
    .bind(kind)
    .bind(scope)
    .bind(reason)
    .bind(provider)
    .bind(version)
    .execute(db)
    .await?;
    Ok(())
}

/// Becomes the one that tries, if it is time; the next try is twice as far off as this one was, at most `longest`.
pub async fn take_try(
    db: &mut MySqlConnection,
    provider: &str,
    first_pause: Duration,
    longest: Duration,
) -> Result<bool, DbError> {
    let result = sqlx::query(
        "UPDATE rag_provider_connections SET \
           blocked_next_try_at = UTC_TIMESTAMP(6) + INTERVAL LEAST(? * POW(2, LEAST(blocked_tries, 16) + 1), ?) SECOND, \
           blocked_tries = blocked_tries + 1, updated_at = updated_at \
         WHERE id = ? AND blocked_kind IS NOT NULL AND blocked_next_try_at <= UTC_TIMESTAMP(6)",
    )
    .bind(first_pause.as_secs())
    .bind(longest.as_secs())
    .bind(provider)
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// A try succeeded: it is over.
pub async fn clear(db: &mut MySqlConnection, provider: &str) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_connections SET blocked_kind = NULL, blocked_scope = NULL, blocked_reason = NULL, \
           blocked_since = NULL, blocked_next_try_at = NULL, blocked_tries = 0, last_error = NULL, updated_at = updated_at \
         WHERE id = ? AND blocked_kind IS NOT NULL",
    )
    .bind(provider)
    .execute(db)
    .await?;
    Ok(())
}
