//! `rag_index_attachments`: the files that are attached to a vector store, or are about to be attached or detached.

mod asked;
mod listings;
mod missed;
mod moves;
mod observations;
mod removal;
mod seen;

use chrono::{DateTime, Utc};
use rag_domain::{
    AttachMethod, AttachedFile, AttachmentId, AttachmentState, ChunkingProof, ChunkingStrategy, FileCounts,
    FileId, IndexId, PresentFile,
};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::budgets;
use crate::error::on_duplicate;
use crate::sql::{MOST_ROWS, Text, one_of};

pub use asked::{mark_attaching, wait_longer};
pub use listings::{
    Counts, WaitingSince, count, find_waiting_since, list_by_external_ids, list_in_state, list_of_files,
    list_page, list_some, list_unlinked, list_waiting, list_waiting_batches,
};
pub use missed::{
    NOT_ATTACHED, NOT_IN_STORE, advance_method, clear_missed, forget_given_up, give_up, list_left, mark_left,
    mark_lost, mark_missed,
};
pub use moves::{
    mark_cancelled, mark_detaching, mark_in_progress, mark_pending, mark_pending_again, retry_failed,
};
pub use observations::{Observation, observe, observe_many};
pub use removal::{delete_detached, forget_index, forget_some, forget_store};
pub use seen::{SeenAttachment, correct, count_at, delete_gone, insert_seen};

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
    /// The way in that was taken last ([`AttachMethod`]); `None`: none yet.
    pub attach_method: Option<String>,
    /// Ways below this rung were taken in vain ([`AttachMethod::rank`]).
    pub next_method: u8,
    /// Of a row that is `attaching`: until then the answer, or the file, may still come.
    pub ask_again_at: Option<DateTime<Utc>>,
    /// When a complete listing first lacked the file.
    pub missed_at: Option<DateTime<Utc>>,
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
    /// How often it was detached and attached again because the provider did not index it in time.
    pub reattached: u32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Attachment {
    /// What became of the strategy that was asked for.
    pub fn chunking_proof(&self) -> ChunkingProof {
        ChunkingProof::of(
            self.chunking_strategy,
            self.reported_strategy.as_ref(),
            self.strategy_applied,
        )
    }

    /// The way in that was taken last, if this version knows it.
    pub fn way(&self) -> Option<AttachMethod> {
        self.attach_method
            .clone()
            .and_then(|way| AttachMethod::try_from(way).ok())
    }

    /// What the store calls the file.
    pub fn store_file_id(&self) -> &str {
        self.external_store_file_id
            .as_deref()
            .unwrap_or(&self.external_file_id)
    }
}

impl From<&Attachment> for AttachedFile {
    fn from(row: &Attachment) -> Self {
        Self {
            attachment: row.id,
            file_id: row.external_file_id.clone(),
            store_file_id: row.store_file_id().to_owned(),
            state: row.state,
        }
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
     size_bytes, chunking_strategy, state, external_batch_id, attach_method, next_method, ask_again_at, missed_at, reported_strategy, strategy_applied, usage_bytes, error_code, last_error, attached_at, \
     reattached, created_at, updated_at";

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
    let sql = format!(
        "SELECT COUNT(DISTINCT CASE a.state WHEN 'attaching' THEN a.index_id ELSE COALESCE(a.external_batch_id, a.id) END) \
         FROM rag_indexes i JOIN rag_index_attachments a ON a.index_id = i.id \
         WHERE i.provider_type = ? AND i.indexing_status = 'in_progress' AND {}",
        one_of("a.state", AttachmentState::INDEXING)
    );
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(provider)
        .fetch_one(db)
        .await?;
    Ok(count.unsigned_abs())
}

/// Writes `pending` rows. [`DbError::Duplicate`] if one of the files is in its store already, or still on its way out.
pub async fn insert_many(db: &mut MySqlConnection, new: &[NewAttachment<'_>]) -> Result<(), DbError> {
    insert_rows(db, new, "INSERT").await.map(drop)
}

/// As [`insert_many`]; leaves out files that are in their store already, or still on their way out. Answers how many were
/// written.
pub async fn insert_missing(db: &mut MySqlConnection, new: &[NewAttachment<'_>]) -> Result<u64, DbError> {
    insert_rows(db, new, "INSERT IGNORE").await
}

async fn insert_rows(
    db: &mut MySqlConnection,
    new: &[NewAttachment<'_>],
    insert: &'static str,
) -> Result<u64, DbError> {
    let sql = format!(
        "{insert} INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, \
         content_sha256, size_bytes, chunking_strategy, state) \
         SELECT s.id, s.idx, s.store, s.file, s.external, s.sha, s.bytes, s.strategy, 'pending' \
         FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(36) PATH '$.id', idx CHAR(36) PATH '$.index', \
         store VARCHAR(255) PATH '$.store', file CHAR(36) PATH '$.file', external VARCHAR(255) PATH '$.external', \
         sha CHAR(64) PATH '$.sha', bytes BIGINT UNSIGNED PATH '$.bytes', strategy TEXT PATH '$.strategy')) AS s"
    );
    let mut written = 0;
    for chunk in new.chunks(MOST_ROWS) {
        let mut rows = Vec::with_capacity(chunk.len());
        for new in chunk {
            let strategy = new.chunking_strategy.as_ref().map(serde_json::to_string);
            rows.push(json!({
                "id": AttachmentId::new().to_string(),
                "index": new.index_id.to_string(),
                "store": new.external_store_id,
                "file": new.local_file_id.to_string(),
                "external": new.external_file_id,
                "sha": new.content_sha256,
                "bytes": new.size_bytes,
                "strategy": strategy.transpose().map_err(|error| sqlx::Error::Encode(error.into()))?,
            }));
        }
        let result = sqlx::query(AssertSqlSafe(sql.as_str()))
            .bind(Json(rows))
            .execute(&mut *db)
            .await
            .map_err(on_duplicate("attachment"))?;
        written += result.rows_affected();
    }
    Ok(written)
}

/// Whether the provider, which indexes `most` things at once, has a free slot for one more. No other transaction finds one
/// until this one ends, so marking rows as `attaching` in it never exceeds the limit.
pub async fn find_indexing_place(
    tx: &mut MySqlConnection,
    provider: &str,
    most: u32,
) -> Result<bool, DbError> {
    budgets::lock(tx, provider).await?;
    Ok(count_indexing_operations(tx, provider).await? < u64::from(most))
}

/// As [`insert_many`], for one.
pub async fn insert(db: &mut MySqlConnection, new: &NewAttachment<'_>) -> Result<AttachmentId, DbError> {
    insert_many(db, std::slice::from_ref(new)).await?;
    let id: Text<AttachmentId> = sqlx::query_scalar(
        "SELECT id FROM rag_index_attachments WHERE external_store_id = ? AND external_file_id = ?",
    )
    .bind(new.external_store_id)
    .bind(new.external_file_id)
    .fetch_one(db)
    .await?;
    Ok(id.0)
}

/// How many of an index's files the provider has accepted into its store, by state.
pub async fn count_states(db: &mut MySqlConnection, index: IndexId) -> Result<FileCounts, DbError> {
    let rows: Vec<(Text<AttachmentState>, i64)> = sqlx::query_as(
        "SELECT state, COUNT(*) FROM rag_index_attachments WHERE index_id = ? AND attached_at IS NOT NULL GROUP BY state",
    )
    .bind(Text(index))
    .fetch_all(db)
    .await?;
    let mut counts = FileCounts::default();
    for (Text(state), count) in rows {
        let count = count.unsigned_abs();
        match state {
            AttachmentState::Completed => counts.completed += count,
            AttachmentState::Failed => counts.failed += count,
            AttachmentState::Cancelled => counts.cancelled += count,
            _ => counts.in_progress += count,
        }
    }
    Ok(counts)
}

/// The indexes to whose stores a file is attached, or may be, and whether their own deletion was requested.
pub async fn list_indexes_of_file(
    db: &mut MySqlConnection,
    file: FileId,
) -> Result<Vec<(IndexId, bool)>, DbError> {
    let rows: Vec<(Text<IndexId>, i64)> = sqlx::query_as(
        "SELECT a.index_id, CAST(i.deleted_at IS NOT NULL AS SIGNED) FROM rag_index_attachments a \
         JOIN rag_indexes i ON i.id = a.index_id WHERE a.local_file_id = ? GROUP BY a.index_id",
    )
    .bind(Text(file))
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, deleted)| (id.0, deleted != 0))
        .collect())
}

/// Whether anything is attached to a store of this index, or may be.
pub async fn any_of_index(db: &mut MySqlConnection, index: IndexId) -> Result<bool, DbError> {
    let row: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM rag_index_attachments WHERE index_id = ? LIMIT 1")
            .bind(Text(index))
            .fetch_optional(db)
            .await?;
    Ok(row.is_some())
}

/// Whether the provider indexes files of this index that went in with a batch.
pub async fn any_batch_in_progress(db: &mut MySqlConnection, index: IndexId) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_index_attachments \
         WHERE index_id = ? AND state = 'in_progress' AND external_batch_id IS NOT NULL LIMIT 1",
    )
    .bind(Text(index))
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// The attachments of one file to stores of this index.
pub async fn list_of_file(
    db: &mut MySqlConnection,
    index: IndexId,
    file: FileId,
) -> Result<Vec<Attachment>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_index_attachments WHERE index_id = ? AND local_file_id = ?");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(index))
        .bind(Text(file))
        .fetch_all(db)
        .await?)
}
