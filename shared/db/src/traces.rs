//! `rag_provider_traces`: everything that we made at a provider, or may have made.
//!
//! The proof by which something there is ours. Tags and names can be copied, and databases too: what another installation
//! made on the same account, or this one's original after we were restored from its backup, has no row here and is never
//! touched. A store has its row before it is asked for, under the id that it carries as its tag. A file has one when its
//! id is known, or when an upload was given up unheard.

use chrono::{DateTime, Utc};
use rag_domain::IntentId;
use sqlx::{FromRow, MySqlConnection};

use crate::DbError;
use crate::intents::Intent;
use crate::sql::{Text, push_list};

/// What a trace is of.
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

/// An upload that was given up without having been heard of.
#[derive(Debug, Clone, FromRow)]
pub struct Unheard {
    #[sqlx(try_from = "Text<IntentId>")]
    pub id: IntentId,
    pub file_name: String,
    pub size_bytes: u64,
    /// The local file and its content.
    pub file_id: Option<String>,
    pub content_sha256: Option<String>,
    pub begun_at: DateTime<Utc>,
    pub settled_at: DateTime<Utc>,
}

/// A store is about to be asked for; in the transaction that declares its intent.
pub async fn insert_store(db: &mut MySqlConnection, provider: &str, intent: IntentId) -> Result<(), DbError> {
    sqlx::query(
        "INSERT IGNORE INTO rag_provider_traces (id, provider_id, kind, begun_at) \
         VALUES (?, ?, 'vector_store', UTC_TIMESTAMP(6))",
    )
    .bind(Text(intent))
    .bind(provider)
    .execute(db)
    .await?;
    Ok(())
}

/// The provider made this for the intent. In the transaction that records it, or as soon as its id is known.
pub async fn mark_heard(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    intent: IntentId,
    external_id: &str,
) -> Result<(), DbError> {
    let known = sqlx::query(
        "UPDATE IGNORE rag_provider_traces SET external_id = ?, settled_at = UTC_TIMESTAMP(6) \
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
    // None yet, or the intent has made something before: then this one goes by an id of its own.
    for id in [intent, IntentId::new()] {
        let inserted = sqlx::query(
            "INSERT IGNORE INTO rag_provider_traces (id, provider_id, kind, external_id, begun_at, settled_at) \
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

/// Nobody heard what became of an upload: what it was is kept, should its copy come to light. Call it in the transaction that
/// removes its intent.
pub async fn insert_unheard(db: &mut MySqlConnection, intent: &Intent) -> Result<(), DbError> {
    sqlx::query(
        "INSERT IGNORE INTO rag_provider_traces (id, provider_id, kind, file_name, size_bytes, file_id, content_sha256, begun_at, settled_at) \
         VALUES (?, ?, 'file', ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))",
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

/// The provider says that it is gone, whoever made it.
pub async fn mark_deleted(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_provider_traces (id, provider_id, kind, external_id, begun_at, deleted_at) \
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

/// Whether the provider has confirmed that this is gone: then a listing that shows it is an old one.
pub async fn is_deleted(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_traces \
         WHERE provider_id = ? AND kind = ? AND external_id = ? AND deleted_at IS NOT NULL",
    )
    .bind(provider)
    .bind(kind.as_str())
    .bind(external_id)
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Seconds since we heard that this was made, by the database's clock; `None`: we did not make it, or it is gone.
pub async fn find_age_seconds(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<Option<u64>, DbError> {
    let age: Option<Option<i64>> = sqlx::query_scalar(
        "SELECT TIMESTAMPDIFF(SECOND, settled_at, UTC_TIMESTAMP(6)) FROM rag_provider_traces \
         WHERE provider_id = ? AND kind = ? AND external_id = ? AND deleted_at IS NULL",
    )
    .bind(provider)
    .bind(kind.as_str())
    .bind(external_id)
    .fetch_optional(db)
    .await?;
    Ok(age.flatten().map(|seconds| seconds.max(0).unsigned_abs()))
}

/// Which of these things at the provider we made.
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
        "SELECT external_id FROM rag_provider_traces WHERE provider_id = ",
    );
    query
        .push_bind(provider)
        .push(" AND kind = ")
        .push_bind(kind.as_str());
    query.push(" AND external_id IN ");
    push_list(&mut query, external_ids.iter().copied());
    Ok(query.build_query_scalar().fetch_all(db).await?)
}

/// Whether we asked this provider for a store with this tag.
pub async fn is_our_tag(db: &mut MySqlConnection, provider: &str, tag: &str) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_traces WHERE id = ? AND provider_id = ? AND kind = 'vector_store'",
    )
    .bind(tag)
    .bind(provider)
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// The uploads at a provider of which we never heard, oldest first.
pub async fn list_unheard(
    db: &mut MySqlConnection,
    provider: &str,
    limit: u32,
) -> Result<Vec<Unheard>, DbError> {
    Ok(sqlx::query_as(
        "SELECT id, file_name, size_bytes, file_id, content_sha256, begun_at, settled_at FROM rag_provider_traces \
         WHERE provider_id = ? AND kind = 'file' AND external_id IS NULL \
         AND file_name IS NOT NULL AND size_bytes IS NOT NULL AND settled_at IS NOT NULL \
         ORDER BY begun_at, id LIMIT ?",
    )
    .bind(provider)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Whether an upload of the same bytes was given up unheard whose file is not this one, or is not known.
pub async fn has_rival(
    db: &mut MySqlConnection,
    provider: &str,
    file_id: &str,
    content_sha256: &str,
    size_bytes: u64,
) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_traces WHERE provider_id = ? AND kind = 'file' AND external_id IS NULL \
         AND (content_sha256 = ? OR (content_sha256 IS NULL AND size_bytes = ?)) AND NOT (file_id <=> ?) LIMIT 1",
    )
    .bind(provider)
    .bind(content_sha256)
    .bind(size_bytes)
    .bind(file_id)
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Whether this is known as made by us, or as gone.
pub async fn is_known(
    db: &mut MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_traces WHERE provider_id = ? AND kind = ? AND external_id = ?",
    )
    .bind(provider)
    .bind(kind.as_str())
    .bind(external_id)
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// It came to nothing, or it was found.
pub async fn delete_unheard(db: &mut MySqlConnection, id: IntentId) -> Result<bool, DbError> {
    let result = sqlx::query("DELETE FROM rag_provider_traces WHERE id = ? AND external_id IS NULL")
        .bind(Text(id))
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// Forgets files that have been gone for so long that no listing shows them any more.
pub async fn prune(db: &mut MySqlConnection, older_than_days: u32, limit: u32) -> Result<u64, DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_provider_traces WHERE kind = 'file' AND deleted_at < UTC_TIMESTAMP(6) - INTERVAL ? DAY LIMIT ?",
    )
    .bind(older_than_days)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
