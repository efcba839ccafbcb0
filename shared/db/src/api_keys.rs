//! `rag_api_keys`: who may call the API.

use chrono::{DateTime, Utc};
use rag_domain::ApiKeyId;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySql, MySqlConnection, QueryBuilder};

use crate::DbError;
use crate::error::on_duplicate;
use crate::sql::{Text, push_list};

/// A row of `rag_api_keys`; the key itself is nowhere.
#[derive(Debug, Clone, FromRow)]
pub struct ApiKey {
    #[sqlx(try_from = "Text<ApiKeyId>")]
    pub id: ApiKeyId,
    pub name: String,
    /// `service` or `admin`.
    pub role: String,
    /// Domains that a service key may name; `None` is any, and an empty list none.
    #[sqlx(json(nullable))]
    pub domains: Option<Vec<String>>,
    /// 64 hex digits.
    pub key_sha256: String,
    pub created_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, name, role, domains, key_sha256, created_at, revoked_at";

pub async fn insert(
    db: &mut MySqlConnection,
    id: ApiKeyId,
    name: &str,
    role: &str,
    domains: Option<&[String]>,
    key_sha256: &str,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO rag_api_keys (id, name, role, domains, key_sha256) VALUES (?, ?, ?, ?, ?)")
        .bind(Text(id))
        .bind(name)
        .bind(role)
        .bind(domains.map(Json))
        .bind(key_sha256)
        .execute(db)
        .await
        .map_err(on_duplicate("key"))?;
    Ok(())
}

/// The key with this hash, unless it is revoked.
pub async fn find_by_hash(db: &mut MySqlConnection, key_sha256: &str) -> Result<Option<ApiKey>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_api_keys WHERE key_sha256 = ? AND revoked_at IS NULL");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(key_sha256)
        .fetch_optional(db)
        .await?)
}

/// The key with this id, revoked or not.
pub async fn find(db: &mut MySqlConnection, id: ApiKeyId) -> Result<Option<ApiKey>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_api_keys WHERE id = ?");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .fetch_optional(db)
        .await?)
}

/// Oldest first, revoked ones included.
pub async fn list(db: &mut MySqlConnection) -> Result<Vec<ApiKey>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_api_keys ORDER BY created_at, id");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(db).await?)
}

/// Those of these keys that are in force.
pub async fn list_in_force(db: &mut MySqlConnection, ids: &[ApiKeyId]) -> Result<Vec<ApiKeyId>, DbError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query =
        QueryBuilder::<MySql>::new("SELECT id FROM rag_api_keys WHERE revoked_at IS NULL AND id IN ");
    push_list(&mut query, ids.iter().copied().map(Text));
    let rows: Vec<Text<ApiKeyId>> = query.build_query_scalar().fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Whether any key is in force.
pub async fn any_active(db: &mut MySqlConnection) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar("SELECT 1 FROM rag_api_keys WHERE revoked_at IS NULL LIMIT 1")
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// The answer tells whether the key existed and was in force.
pub async fn revoke(db: &mut MySqlConnection, id: ApiKeyId) -> Result<bool, DbError> {
    let result = sqlx::query(
        "UPDATE rag_api_keys SET revoked_at = UTC_TIMESTAMP(6) WHERE id = ? AND revoked_at IS NULL",
    )
    .bind(Text(id))
    .execute(db)
    .await?;
    Ok(result.rows_affected() > 0)
}
