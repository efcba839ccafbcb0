//! `rag_provider_connections`: one row per provider type, for the whole installation.
//!
//! Secrets pass through here sealed; only the code that builds a provider client opens them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection as _, FromRow, MySqlConnection};

use crate::DbError;
use crate::backoffs;
use crate::error::on_duplicate;
use crate::sql::exactly_one;

/// A row of `rag_provider_connections`. Its secrets are sealed envelopes.
#[derive(Debug, Clone, FromRow)]
pub struct Connection {
    #[sqlx(rename = "id")]
    pub provider_type: String,
    pub base_url: Option<String>,
    pub auth_type: String,
    #[sqlx(json(nullable))]
    pub credentials_enc: Option<Value>,
    #[sqlx(json(nullable))]
    pub token_enc: Option<Value>,
    pub token_expires_at: Option<DateTime<Utc>>,
    /// Over all processes.
    pub max_requests_per_second: Option<u32>,
    /// Open at the same time, over all processes.
    pub max_concurrent_requests: Option<u32>,
    pub is_enabled: bool,
    /// Nothing but this database works on the account behind it, says an admin.
    pub is_exclusive: bool,
    pub last_healthcheck_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    /// Of the last sync of the provider.
    pub sync_error: Option<String>,
    /// What the account has run out of (`rag_providers::Exhaustion`); see [`crate::blocks`].
    pub blocked_kind: Option<String>,
    /// The provider's words.
    pub blocked_reason: Option<String>,
    pub blocked_since: Option<DateTime<Utc>>,
    /// When one request of the fleet tries again.
    pub blocked_next_try_at: Option<DateTime<Utc>>,
    /// What this connection was seen to do or not to do, as `rag-providers` writes it; forgotten when host or credentials change.
    #[sqlx(json(nullable))]
    pub learned: Option<Value>,
    pub created_at: DateTime<Utc>,
    /// When an admin changed it, or its secrets were sealed anew; tokens and health don't count.
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str = "id, base_url, auth_type, credentials_enc, token_enc, token_expires_at, \
     max_requests_per_second, max_concurrent_requests, is_enabled, is_exclusive, last_healthcheck_at, last_error, sync_error, \
     blocked_kind, blocked_reason, blocked_since, blocked_next_try_at, learned, created_at, updated_at";

/// What an admin sets; writing it clears `last_error`, the state of an exhausted account, and any cached token.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    pub provider_type: String,
    pub base_url: Option<String>,
    pub auth_type: String,
    pub credentials_enc: Option<Value>,
    pub max_requests_per_second: Option<u32>,
    /// Open at the same time, over all processes.
    pub max_concurrent_requests: Option<u32>,
    pub is_enabled: bool,
    pub is_exclusive: bool,
}

pub async fn insert(db: &mut MySqlConnection, settings: &ConnectionSettings) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_provider_connections \
         (id, base_url, auth_type, credentials_enc, max_requests_per_second, max_concurrent_requests, is_enabled, \
          is_exclusive) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&settings.provider_type)
    .bind(&settings.base_url)
    .bind(&settings.auth_type)
    .bind(settings.credentials_enc.as_ref().map(Json))
    .bind(settings.max_requests_per_second)
    .bind(settings.max_concurrent_requests)
    .bind(settings.is_enabled)
    .bind(settings.is_exclusive)
    .execute(db)
    .await
    .map_err(on_duplicate("connection"))?;
    Ok(())
}

/// Sets every field of [`ConnectionSettings`]; the caller has read the row with [`lock`] before.
pub async fn update(db: &mut MySqlConnection, settings: &ConnectionSettings) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_provider_connections SET \
         learned = IF(base_url <=> ? AND auth_type = ? AND credentials_enc <=> ?, learned, NULL), \
         base_url = ?, auth_type = ?, credentials_enc = ?, max_requests_per_second = ?, max_concurrent_requests = ?, \
         is_enabled = ?, is_exclusive = ?, token_enc = NULL, token_expires_at = NULL, token_lease_until = NULL, last_error = NULL, \
         sync_error = NULL, \
         blocked_kind = NULL, blocked_scope = NULL, blocked_reason = NULL, blocked_since = NULL, blocked_next_try_at = NULL, \
         blocked_tries = 0, updated_at = UTC_TIMESTAMP(6) WHERE id = ?",
    )
    // MariaDB sets from left to right: the first three are held against what the row had.
    .bind(&settings.base_url)
    .bind(&settings.auth_type)
    .bind(settings.credentials_enc.as_ref().map(Json))
    .bind(&settings.base_url)
    .bind(&settings.auth_type)
    .bind(settings.credentials_enc.as_ref().map(Json))
    .bind(settings.max_requests_per_second)
    .bind(settings.max_concurrent_requests)
    .bind(settings.is_enabled)
    .bind(settings.is_exclusive)
    .bind(&settings.provider_type)
    .execute(&mut *db)
    .await?;
    exactly_one(&result, "connection", &settings.provider_type)?;
    backoffs::forget(db, &settings.provider_type).await
}

pub async fn find(db: &mut MySqlConnection, provider_type: &str) -> Result<Option<Connection>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_provider_connections WHERE id = ?");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(provider_type)
        .fetch_optional(db)
        .await?)
}

/// By what one tells whether a connection was changed since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Version {
    pub is_enabled: bool,
    /// As [`Connection::updated_at`].
    pub updated_at: DateTime<Utc>,
}

/// Of a connection's row, if there is one.
pub async fn find_version(db: &mut MySqlConnection, provider_type: &str) -> Result<Option<Version>, DbError> {
    let sql = "SELECT is_enabled, updated_at FROM rag_provider_connections WHERE id = ?";
    Ok(sqlx::query_as(sql).bind(provider_type).fetch_optional(db).await?)
}

/// Whether an admin says that nothing but this database works on the account; `false` if there is no connection.
pub async fn is_exclusive(db: &mut MySqlConnection, provider_type: &str) -> Result<bool, DbError> {
    let sql = "SELECT is_exclusive FROM rag_provider_connections WHERE id = ?";
    let found: Option<bool> = sqlx::query_scalar(sql)
        .bind(provider_type)
        .fetch_optional(db)
        .await?;
    Ok(found.unwrap_or(false))
}

/// As [`find`], and locks the row until the transaction ends.
pub async fn lock(db: &mut MySqlConnection, provider_type: &str) -> Result<Option<Connection>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_provider_connections WHERE id = ? FOR UPDATE");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(provider_type)
        .fetch_optional(db)
        .await?)
}

pub async fn list(db: &mut MySqlConnection) -> Result<Vec<Connection>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_provider_connections ORDER BY id");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(db).await?)
}

/// The answer tells whether there was one.
pub async fn delete(db: &mut MySqlConnection, provider_type: &str) -> Result<bool, DbError> {
    let result = sqlx::query("DELETE FROM rag_provider_connections WHERE id = ?")
        .bind(provider_type)
        .execute(db)
        .await?;
    Ok(result.rows_affected() > 0)
}

/// A health check was made now, and found this error or none.
pub async fn record_health(
    db: &mut MySqlConnection,
    provider_type: &str,
    error: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_connections SET last_healthcheck_at = UTC_TIMESTAMP(6), last_error = ?, \
         updated_at = updated_at WHERE id = ?",
    )
    .bind(error)
    .bind(provider_type)
    .execute(db)
    .await?;
    Ok(())
}

/// A call failed because of the connection itself: credentials, address, key.
pub async fn record_error(db: &mut MySqlConnection, provider_type: &str, error: &str) -> Result<(), DbError> {
    sqlx::query("UPDATE rag_provider_connections SET last_error = ?, updated_at = updated_at WHERE id = ?")
        .bind(error)
        .bind(provider_type)
        .execute(db)
        .await?;
    Ok(())
}

/// As [`record_error`], met by a client of this `version` of the connection, its `updated_at`: of one that was changed since, it
/// says nothing.
pub async fn record_error_of(
    db: &mut MySqlConnection,
    provider_type: &str,
    version: DateTime<Utc>,
    error: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_connections SET last_error = ?, updated_at = updated_at WHERE id = ? AND updated_at = ?",
    )
    .bind(error)
    .bind(provider_type)
    .bind(version)
    .execute(db)
    .await?;
    Ok(())
}

/// How the last sync of the provider went: with this error, or none.
pub async fn set_sync_error(
    db: &mut MySqlConnection,
    provider_type: &str,
    error: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_connections SET sync_error = ?, updated_at = updated_at \
         WHERE id = ? AND NOT sync_error <=> ?",
    )
    .bind(error)
    .bind(provider_type)
    .bind(error)
    .execute(db)
    .await?;
    Ok(())
}

/// Calls succeed: whatever was wrong is over.
pub async fn clear_error(db: &mut MySqlConnection, provider_type: &str) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_connections SET last_error = NULL, updated_at = updated_at \
         WHERE id = ? AND last_error IS NOT NULL",
    )
    .bind(provider_type)
    .execute(db)
    .await?;
    Ok(())
}

/// The connection was seen to do or not to do something: one fact under its name, beside the others. Nothing is written if
/// an admin has changed the connection since `version`, its `updated_at`: then it was seen at another one.
pub async fn learn(
    db: &mut MySqlConnection,
    provider_type: &str,
    version: DateTime<Utc>,
    name: &str,
    fact: &Value,
) -> Result<bool, DbError> {
    let result = sqlx::query(
        "UPDATE rag_provider_connections SET learned = JSON_SET(COALESCE(learned, '{}'), CONCAT('$.', ?), JSON_COMPACT(?)), \
         updated_at = updated_at WHERE id = ? AND updated_at = ?",
    )
    .bind(name)
    .bind(Json(fact))
    .bind(provider_type)
    .bind(version)
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The sealed access token, expired or not.
pub async fn find_token(db: &mut MySqlConnection, provider_type: &str) -> Result<Option<Value>, DbError> {
    let token: Option<Option<Json<Value>>> =
        sqlx::query_scalar("SELECT token_enc FROM rag_provider_connections WHERE id = ?")
            .bind(provider_type)
            .fetch_optional(db)
            .await?;
    Ok(token.flatten().map(|token| token.0))
}

/// Stores a sealed access token, and ends the lease under which it was requested.
pub async fn save_token(
    db: &mut MySqlConnection,
    provider_type: &str,
    token_enc: &Value,
    expires_at: DateTime<Utc>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_connections SET token_enc = ?, token_expires_at = ?, token_lease_until = NULL, \
         updated_at = updated_at WHERE id = ?",
    )
    .bind(Json(token_enc))
    .bind(expires_at)
    .bind(provider_type)
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the lease for requesting a new access token, for this long; `false`: another process has it.
pub async fn lease_token(
    db: &mut MySqlConnection,
    provider_type: &str,
    ttl: Duration,
) -> Result<bool, DbError> {
    let result = sqlx::query(
        "UPDATE rag_provider_connections SET token_lease_until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, \
         updated_at = updated_at WHERE id = ? AND COALESCE(token_lease_until < UTC_TIMESTAMP(6), TRUE)",
    )
    .bind(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX))
    .bind(provider_type)
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// A column that holds a sealed envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedColumn {
    Credentials,
    Token,
}

impl SealedColumn {
    /// The column's name, which its envelopes are bound to.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials_enc",
            Self::Token => "token_enc",
        }
    }
}

/// Replaces an envelope by the same secret, sealed anew; `false`: the envelope has been replaced meanwhile.
pub async fn reseal(
    db: &mut MySqlConnection,
    provider_type: &str,
    column: SealedColumn,
    old: &Value,
    new: &Value,
) -> Result<bool, DbError> {
    let column = column.as_str();
    let mut tx = db.begin().await?;
    let sql = format!("SELECT {column} FROM rag_provider_connections WHERE id = ? FOR UPDATE");
    let present: Option<Option<Json<Value>>> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(provider_type)
        .fetch_optional(&mut *tx)
        .await?;
    if present.flatten().is_none_or(|present| present.0 != *old) {
        return Ok(false);
    }
    let sql = format!(
        "UPDATE rag_provider_connections SET {column} = ?, updated_at = UTC_TIMESTAMP(6) WHERE id = ?"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(Json(new))
        .bind(provider_type)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(true)
}
