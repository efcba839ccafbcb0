//! `rag_index_attachments`: what hangs in a vector store, or is on its way in or out.

use chrono::{DateTime, Utc};
use rag_domain::{AttachmentId, AttachmentState, ChunkingStrategy, FileId, IndexId, PresentFile};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::budgets;
use crate::error::on_duplicate;
use crate::sql::{Text, exactly_one, in_list};

/// A row of `rag_index_attachments`.
#[derive(Debug, Clone, FromRow)]
pub struct Attachment {
    #[sqlx(try_from = "Text<AttachmentId>")]
    pub id: AttachmentId,
    #[sqlx(try_from = "Text<IndexId>")]
    pub index_id: IndexId,
    pub external_store_id: String,
    #[sqlx(try_from = "Text<FileId>")]
    pub local_file_id: FileId,
    /// In the Files API.
    pub external_file_id: String,
    /// Within the store, where it is another one.
    pub external_store_file_id: Option<String>,
    pub content_sha256: String,
    pub size_bytes: u64,
    /// As asked for.
    #[sqlx(json(nullable))]
    pub chunking_strategy: Option<ChunkingStrategy>,
    #[sqlx(try_from = "Text<AttachmentState>")]
    pub state: AttachmentState,
    pub external_batch_id: Option<String>,
    /// As the provider reports it.
    #[sqlx(json(nullable))]
    pub reported_strategy: Option<Value>,
    /// `false`: the provider attached the file without the strategy that was asked for.
    pub strategy_applied: Option<bool>,
    pub usage_bytes: Option<u64>,
    pub error_code: Option<String>,
    pub last_error: Option<String>,
    /// When the provider accepted it.
    pub attached_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Attachment {
    /// What the store calls the file.
    pub fn store_file_id(&self) -> &str {
        self.external_store_file_id
            .as_deref()
            .unwrap_or(&self.external_file_id)
    }
}

impl From<&Attachment> for PresentFile {
    fn from(row: &Attachment) -> Self {
        Self {
            attachment_id: row.id,
            file_id: row.local_file_id,
            external_file_id: row.external_file_id.clone(),
            content_sha256: row.content_sha256.clone(),
            strategy: row.chunking_strategy,
            state: row.state,
        }
    }
}

const COLUMNS: &str = "id, index_id, external_store_id, local_file_id, external_file_id, external_store_file_id, content_sha256, \
     size_bytes, chunking_strategy, state, external_batch_id, reported_strategy, strategy_applied, usage_bytes, error_code, last_error, attached_at, \
     created_at, updated_at";

/// A file that is about to be attached.
#[derive(Debug, Clone)]
pub struct NewAttachment<'a> {
    pub index_id: IndexId,
    pub external_store_id: &'a str,
    pub local_file_id: FileId,
    pub external_file_id: &'a str,
    pub content_sha256: &'a str,
    pub size_bytes: u64,
    pub chunking_strategy: Option<ChunkingStrategy>,
}

/// What a look at the provider told of one file.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// `in_progress` or a settled state.
    pub state: AttachmentState,
    /// What the store calls the file, if it is not what the Files API calls it.
    pub external_store_file_id: Option<&'a str>,
    pub reported_strategy: Option<&'a Value>,
    /// What can be told from `reported_strategy`; it does not override what the answer to the attach told.
    pub strategy_applied: Option<bool>,
    pub usage_bytes: Option<u64>,
    pub error_code: Option<&'a str>,
    pub last_error: Option<&'a str>,
}

/// Every attachment of an index, whatever its state.
pub async fn list(db: &mut MySqlConnection, index: IndexId) -> Result<Vec<Attachment>, DbError> {
    let sql =
        format!("SELECT {COLUMNS} FROM rag_index_attachments WHERE index_id = ? ORDER BY created_at, id");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(index))
        .fetch_all(db)
        .await?)
}

/// Attach calls whose files the provider is indexing, over all indexes that are being built there: a batch is one, and so
/// is a file that was attached by itself. What builds that are over left behind does not count.
pub async fn count_indexing_operations(db: &mut MySqlConnection, provider: &str) -> Result<u64, DbError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(DISTINCT CASE a.state WHEN 'attaching' THEN a.index_id ELSE COALESCE(a.external_batch_id, a.id) END) \
         FROM rag_indexes i JOIN rag_index_attachments a ON a.index_id = i.id \
         WHERE i.provider_type = ? AND i.indexing_status = 'in_progress' AND a.state IN ('attaching', 'in_progress')",
    )
    .bind(provider)
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}

/// Whether the provider, which indexes `most` things at once, has a place for one more. Nobody else finds one until the
/// transaction ends: whoever marks rows as `attaching` in it never exceeds the limit, however many are at it.
pub async fn find_indexing_place(
    tx: &mut MySqlConnection,
    provider: &str,
    most: u32,
) -> Result<bool, DbError> {
    budgets::lock(tx, provider).await?;
    Ok(count_indexing_operations(tx, provider).await? < u64::from(most))
}

/// Writes a `pending` row. [`DbError::Duplicate`] if this file is in this store already, or still on its way out.
pub async fn insert(db: &mut MySqlConnection, new: &NewAttachment<'_>) -> Result<AttachmentId, DbError> {
    let id = AttachmentId::new();
    sqlx::query(
        "INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, content_sha256, \
         size_bytes, chunking_strategy, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending')",
    )
    .bind(Text(id))
    .bind(Text(new.index_id))
    .bind(new.external_store_id)
    .bind(Text(new.local_file_id))
    .bind(new.external_file_id)
    .bind(new.content_sha256)
    .bind(new.size_bytes)
    .bind(new.chunking_strategy.map(Json))
    .execute(db)
    .await
    .map_err(on_duplicate("attachment"))?;
    Ok(id)
}

/// The intent of an attach: the provider is about to be asked for these.
pub async fn mark_attaching(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    transition_all(
        db,
        ids,
        AttachmentState::Attaching,
        "state = 'attaching', strategy_applied = NULL",
        None,
    )
    .await
}

/// The provider accepted these; `batch` is the file batch they went in with.
pub async fn mark_in_progress(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    batch: Option<&str>,
) -> Result<(), DbError> {
    let set = "state = 'in_progress', attached_at = UTC_TIMESTAMP(6)";
    transition_all(db, ids, AttachmentState::InProgress, set, batch).await
}

/// Whether the provider took the strategies that were asked for; rows for which none was asked stay as they are.
pub async fn set_strategy_applied(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    applied: bool,
) -> Result<(), DbError> {
    for chunk in ids.chunks(500) {
        let marks = vec!["?"; chunk.len()].join(",");
        let sql = format!(
            "UPDATE rag_index_attachments SET strategy_applied = ? WHERE id IN ({marks}) AND chunking_strategy IS NOT NULL"
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(applied);
        for id in chunk {
            query = query.bind(Text(*id));
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// The provider never saw these (a complete listing says so), or refused before any effect: they can be asked for again.
pub async fn mark_pending(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    transition_all(db, ids, AttachmentState::Pending, "state = 'pending'", None).await
}

/// The intent of a detach: the provider is about to be asked to take these out.
pub async fn mark_detaching(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    transition_all(db, ids, AttachmentState::Detaching, "state = 'detaching'", None).await
}

/// What the provider says of a file that it has.
pub async fn observe(
    db: &mut MySqlConnection,
    id: AttachmentId,
    seen: &Observation<'_>,
) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_index_attachments SET state = ?, external_store_file_id = COALESCE(?, external_store_file_id), \
         reported_strategy = COALESCE(?, reported_strategy), strategy_applied = COALESCE(strategy_applied, ?), usage_bytes = ?, \
         error_code = ?, last_error = ?, attached_at = COALESCE(attached_at, UTC_TIMESTAMP(6)), updated_at = UTC_TIMESTAMP(6) \
         WHERE id = ? AND state IN {}",
        in_list(seen.state.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(Text(seen.state))
        .bind(seen.external_store_file_id)
        .bind(seen.reported_strategy.map(Json))
        .bind(seen.strategy_applied)
        .bind(seen.usage_bytes)
        .bind(seen.error_code)
        .bind(seen.last_error)
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "attachment", id)
}

/// The provider confirmed that the file is out (or was never in).
pub async fn delete_detached(db: &mut MySqlConnection, id: AttachmentId) -> Result<(), DbError> {
    let result = sqlx::query("DELETE FROM rag_index_attachments WHERE id = ? AND state = 'detaching'")
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "attachment", id)
}

/// The store itself is given up, and with it all that hung in it. Answers the provider's file ids that hung there.
pub async fn forget_store(db: &mut MySqlConnection, external_store_id: &str) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar(
        "DELETE FROM rag_index_attachments WHERE external_store_id = ? RETURNING external_file_id",
    )
    .bind(external_store_id)
    .fetch_all(db)
    .await?)
}

/// A build begins: what failed or was cancelled before is taken out, to go in again.
pub async fn retry_failed(db: &mut MySqlConnection, index: IndexId) -> Result<u64, DbError> {
    let result = sqlx::query(
        "UPDATE rag_index_attachments SET state = 'detaching' WHERE index_id = ? AND state IN ('failed', 'cancelled')",
    )
    .bind(Text(index))
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Moves all of `ids` or, if one of them may not move, errors with [`DbError::Conflict`].
async fn transition_all(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    to: AttachmentState,
    set: &str,
    batch: Option<&str>,
) -> Result<(), DbError> {
    for chunk in ids.chunks(500) {
        let marks = vec!["?"; chunk.len()].join(",");
        let sql = format!(
            "UPDATE rag_index_attachments SET {set}, external_batch_id = COALESCE(?, external_batch_id), \
             updated_at = UTC_TIMESTAMP(6) WHERE id IN ({marks}) AND state IN {}",
            in_list(to.predecessors())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(batch);
        for id in chunk {
            query = query.bind(Text(*id));
        }
        let moved = query.execute(&mut *db).await?.rows_affected();
        if moved != chunk.len() as u64 {
            return Err(DbError::Conflict {
                what: "attachment",
                id: format!("(one of {})", chunk.len()),
            });
        }
    }
    Ok(())
}

/// As [`observe`], but takes the provider's word against ours too: for a sync, while no build is at work on the index.
pub async fn correct(
    db: &mut MySqlConnection,
    id: AttachmentId,
    seen: &Observation<'_>,
) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_index_attachments SET state = ?, external_store_file_id = COALESCE(?, external_store_file_id), \
         reported_strategy = COALESCE(?, reported_strategy), strategy_applied = COALESCE(?, strategy_applied), usage_bytes = ?, \
         error_code = ?, last_error = ?, attached_at = COALESCE(attached_at, UTC_TIMESTAMP(6)), updated_at = UTC_TIMESTAMP(6) \
         WHERE id = ? AND state IN {}",
        in_list(seen.state.corrected_from())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(Text(seen.state))
        .bind(seen.external_store_file_id)
        .bind(seen.reported_strategy.map(Json))
        .bind(seen.strategy_applied)
        .bind(seen.usage_bytes)
        .bind(seen.error_code)
        .bind(seen.last_error)
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "attachment", id)
}

/// A file that hangs in the store without our having attached it.
pub async fn insert_seen(
    db: &mut MySqlConnection,
    new: &NewAttachment<'_>,
    seen: &Observation<'_>,
    attached_at: Option<DateTime<Utc>>,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, \
         external_store_file_id, content_sha256, size_bytes, chunking_strategy, state, reported_strategy, strategy_applied, \
         usage_bytes, error_code, last_error, attached_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, COALESCE(?, UTC_TIMESTAMP(6)))",
    )
    .bind(Text(AttachmentId::new()))
    .bind(Text(new.index_id))
    .bind(new.external_store_id)
    .bind(Text(new.local_file_id))
    .bind(new.external_file_id)
    .bind(seen.external_store_file_id)
    .bind(new.content_sha256)
    .bind(new.size_bytes)
    .bind(new.chunking_strategy.map(Json))
    .bind(Text(seen.state))
    .bind(seen.reported_strategy.map(Json))
    .bind(seen.strategy_applied)
    .bind(seen.usage_bytes)
    .bind(seen.error_code)
    .bind(seen.last_error)
    .bind(attached_at)
    .execute(db)
    .await
    .map_err(on_duplicate("attachment"))?;
    Ok(())
}

/// The provider's complete listing of the store no longer has this file, which once hung there.
pub async fn delete_gone(db: &mut MySqlConnection, id: AttachmentId) -> Result<(), DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_index_attachments WHERE id = ? AND state IN ('in_progress', 'completed')",
    )
    .bind(Text(id))
    .execute(db)
    .await?;
    exactly_one(&result, "attachment", id)
}

/// How many files hang in stores of this provider by our rows.
pub async fn count_at(db: &mut MySqlConnection, provider: &str) -> Result<u64, DbError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM rag_indexes i JOIN rag_index_attachments a ON a.index_id = i.id \
         WHERE i.provider_type = ? AND a.state IN ('in_progress', 'completed')",
    )
    .bind(provider)
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}
