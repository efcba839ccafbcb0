//! `rag_provider_ownership`, the ownership ledger: everything that this database created at a provider, or may have created.
//!
//! A row here is the only proof that something at a provider is ours. Tags, names and whole databases can be copied: what
//! another installation created on the same account has no row here and is never touched. The row of a store is written
//! before the store is requested, under the id that the store carries as its tag. The row of a file is written once its id
//! is known, or when its upload was given up unconfirmed.

use chrono::{DateTime, Utc};
use rag_domain::IntentId;
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::intents::Intent;
use crate::sql::{MOST_ROWS, Text, push_list};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    VectorStore,
    File,
}

impl Kind {
    /// The spelling in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VectorStore => "vector_store",
            Self::File => "file",
        }
    }
}

/// An upload that was given up before the provider answered.
#[derive(Debug, Clone, FromRow)]
pub struct Unconfirmed {
    #[sqlx(try_from = "Text<IntentId>")]
    pub id: IntentId,
    pub file_name: String,
    pub size_bytes: u64,
    /// The local file and its content.
    pub file_id: Option<String>,
    pub content_sha256: Option<String>,
    pub begun_at: DateTime<Utc>,
    /// When it was given up.
    pub resolved_at: DateTime<Utc>,
}

/// Records that a store is about to be requested. Call it in the transaction that declares the intent.
pub async fn insert_store(db: &mut MySqlConnection, provider: &str, intent: IntentId) -> Result<(), DbError> {
    sqlx::query(
        "INSERT IGNORE INTO rag_provider_ownership (id, provider_id, kind, begun_at) \
         VALUES (?, ?, 'vector_store', UTC_TIMESTAMP(6))",
    )
    .bind(Text(intent))
    .bind(provider)
    .execute(db)
    .await?;
    Ok(())
}

/// Records what the provider created for the intent. Call it in the transaction that records the result elsewhere, or as
/// soon as the id is known.
pub async fn confirm(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    intent: IntentId,
    external_id: &str,
) -> Result<(), DbError> {
    let known = sqlx::query(
        "UPDATE IGNORE rag_provider_ownership SET external_id = ?, resolved_at = UTC_TIMESTAMP(6) \
         WHERE id = ? AND provider_id = ? AND external_id IS NULL",
    )
    .bind(external_id)
    .bind(Text(intent))
    .bind(provider)
    .execute(&mut *db)
    .await?;
    if known.rows_affected() == 1 {
        return Ok(());
    }
    // Either there is no row yet, or the intent has created something before and this one needs an id of its own.
    for id in [intent, IntentId::new()] {
        let inserted = sqlx::query(
            "INSERT IGNORE INTO rag_provider_ownership (id, provider_id, kind, external_id, begun_at, resolved_at) \
             VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
        )
        .bind(Text(id))
        .bind(provider)
        .bind(kind.as_str())
        .bind(external_id)
        .execute(&mut *db)
        .await?;
        if inserted.rows_affected() == 1 {
            break;
        }
    }
    Ok(())
}

/// As [`confirm`], for files that were uploaded: each with its intent.
pub async fn confirm_files(
    db: &mut MySqlConnection,
    provider: &str,
    files: &[(IntentId, &str)],
) -> Result<(), DbError> {
    for chunk in files.chunks(MOST_ROWS) {
        let rows: Vec<Value> = chunk
            .iter()
            .map(|(intent, external_id)| json!({"id": intent.to_string(), "external": external_id}))
            .collect();
        let inserted = sqlx::query(
            "INSERT IGNORE INTO rag_provider_ownership (id, provider_id, kind, external_id, begun_at, resolved_at) \
             SELECT s.id, ?, 'file', s.external, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM JSON_TABLE(?, '$[*]' COLUMNS \
             (id CHAR(36) PATH '$.id', external VARCHAR(255) PATH '$.external')) AS s",
        )
        .bind(provider)
        .bind(Json(rows))
        .execute(&mut *db)
        .await?
        .rows_affected();
        if inserted < chunk.len() as u64 {
            // Some have a row already: one by one they find it, or get an id of their own.
            for (intent, external_id) in chunk {
                confirm(db, provider, Kind::File, *intent, external_id).await?;
            }
        }
    }
    Ok(())
}

/// Records an upload whose outcome is unknown, so that its copy can be recognised later. Call it in the transaction that
/// removes its intent.
pub async fn insert_unconfirmed(db: &mut MySqlConnection, intent: &Intent) -> Result<(), DbError> {
    sqlx::query(
        "INSERT IGNORE INTO rag_provider_ownership (id, provider_id, kind, file_name, size_bytes, file_id, content_sha256, \
         begun_at, resolved_at) VALUES (?, ?, 'file', ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))",
    )
    .bind(Text(intent.id))
    .bind(&intent.provider_id)
    .bind(&intent.file_name)
    .bind(intent.size_bytes)
    .bind(&intent.subject)
    .bind(&intent.content_sha256)
    .bind(intent.created_at)
    .execute(db)
    .await?;
    Ok(())
}

/// Records that the provider confirmed the deletion of something, ours or not.
pub async fn mark_deleted(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_provider_ownership (id, provider_id, kind, external_id, begun_at, deleted_at) \
         VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE deleted_at = UTC_TIMESTAMP(6)",
    )
    .bind(Text(IntentId::new()))
    .bind(provider)
    .bind(kind.as_str())
    .bind(external_id)
    .execute(db)
    .await?;
    Ok(())
}

/// Whether the provider has confirmed the deletion: a listing that still shows it is an old one.
pub async fn is_deleted(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<bool, DbError> {
    let found = find::<i64>(db, "1", "deleted_at IS NOT NULL", provider, kind, external_id);
    Ok(found.await?.is_some())
}

/// Whether it is known that we created it, or that it is deleted.
pub async fn is_known(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<bool, DbError> {
    let found = find::<i64>(db, "1", "TRUE", provider, kind, external_id);
    Ok(found.await?.is_some())
}

/// Seconds since its creation was confirmed, by the database's clock; `None`: we did not create it, or it is deleted.
pub async fn find_age_seconds(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<Option<u64>, DbError> {
    let age = "TIMESTAMPDIFF(SECOND, resolved_at, UTC_TIMESTAMP(6))";
    let found = find::<Option<i64>>(db, age, "deleted_at IS NULL", provider, kind, external_id);
    Ok(found
        .await?
        .flatten()
        .map(|seconds| seconds.max(0).unsigned_abs()))
}

/// One value of the row with this id at the provider, if the row meets the condition. Both are SQL of this module.
async fn find<T>(
    db: &mut MySqlConnection,
    value: &'static str,
    condition: &'static str,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<Option<T>, DbError>
where
    (T,): for<'r> FromRow<'r, sqlx::mysql::MySqlRow>,
    T: Send + Unpin,
{
    let sql = format!(
        "SELECT {value} FROM rag_provider_ownership \
         WHERE provider_id = ? AND kind = ? AND external_id = ? AND {condition}"
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(provider)
        .bind(kind.as_str())
        .bind(external_id)
        .fetch_optional(db)
        .await?)
}

/// Those of these ids at the provider that have a row here.
pub async fn list_made(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_ids: &[&str],
) -> Result<Vec<String>, DbError> {
    if external_ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(
        "SELECT external_id FROM rag_provider_ownership WHERE provider_id = ",
    );
    query
        .push_bind(provider)
        .push(" AND kind = ")
        .push_bind(kind.as_str());
    query.push(" AND external_id IN ");
    push_list(&mut query, external_ids.iter().copied());
    Ok(query.build_query_scalar().fetch_all(db).await?)
}

/// Whether we requested a store with this tag from this provider.
pub async fn is_our_tag(db: &mut MySqlConnection, provider: &str, tag: &str) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_ownership WHERE id = ? AND provider_id = ? AND kind = 'vector_store'",
    )
    .bind(tag)
    .bind(provider)
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// The unconfirmed uploads at a provider, oldest first.
pub async fn list_unconfirmed(
    db: &mut MySqlConnection,
    provider: &str,
    limit: u32,
) -> Result<Vec<Unconfirmed>, DbError> {
    Ok(sqlx::query_as(
        "SELECT id, file_name, size_bytes, file_id, content_sha256, begun_at, resolved_at FROM rag_provider_ownership \
         WHERE provider_id = ? AND kind = 'file' AND external_id IS NULL \
         AND file_name IS NOT NULL AND size_bytes IS NOT NULL AND resolved_at IS NOT NULL \
         ORDER BY begun_at, id LIMIT ?",
    )
    .bind(provider)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Whether there is an unconfirmed upload of the same bytes for another local file.
pub async fn has_rival(
    db: &mut MySqlConnection,
    provider: &str,
    file_id: &str,
    content_sha256: &str,
) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_ownership WHERE provider_id = ? AND kind = 'file' AND external_id IS NULL \
         AND content_sha256 = ? AND NOT (file_id <=> ?) LIMIT 1",
    )
    .bind(provider)
    .bind(content_sha256)
    .bind(file_id)
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Removes an unconfirmed upload: its copy was found, or can no longer appear.
pub async fn delete_unconfirmed(db: &mut MySqlConnection, id: IntentId) -> Result<bool, DbError> {
    let result = sqlx::query("DELETE FROM rag_provider_ownership WHERE id = ? AND external_id IS NULL")
        .bind(Text(id))
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes the rows of files that were deleted so long ago that no listing shows them any more.
pub async fn prune(db: &mut MySqlConnection, older_than_days: u32, limit: u32) -> Result<u64, DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_provider_ownership WHERE kind = 'file' AND deleted_at < UTC_TIMESTAMP(6) - INTERVAL ? DAY LIMIT ?",
    )
    .bind(older_than_days)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
