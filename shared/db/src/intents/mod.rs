//! `rag_provider_intents`: what is about to happen, or may have happened, at a provider.
//!
//! The row is written before the call and goes in the transaction that records its outcome. One subject has one intent,
//! held by one queue claim; a claim that finds an intent of one that is no longer live takes it over, and first looks at
//! the provider for what the old holder may have left there. Whether a claim is live is the queue's knowledge, so the
//! caller asks the queue and names the token that it found dead.

mod deletions;
mod groups;

use chrono::{DateTime, Utc};
use rag_domain::{FileId, IndexId, IntentId};
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, exactly_one};

pub use deletions::{
    Owner, forget, is_store_retired, list_deletions, list_deletions_of, postpone_deletion,
    postpone_deletion_of, resolve_deletion, resolve_deletion_of, retire_file, retire_file_for, retire_store,
    take_deletion,
};
pub use groups::{declare_uploads, resolve_many, take_over_many};

/// What an intent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    CreateVectorStore,
    UploadFile,
    DeleteVectorStore,
    DeleteFile,
}

impl Operation {
    /// The spelling in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateVectorStore => "create_vector_store",
            Self::UploadFile => "upload_file",
            Self::DeleteVectorStore => "delete_vector_store",
            Self::DeleteFile => "delete_file",
        }
    }
}

/// A row of `rag_provider_intents`.
#[derive(Debug, Clone, FromRow)]
pub struct Intent {
    /// Also the tag of a store that is made for it.
    #[sqlx(try_from = "Text<IntentId>")]
    pub id: IntentId,
    pub provider_id: String,
    /// An index id, a local file id, or (for deletions) the provider's id.
    pub subject: String,
    pub content_sha256: Option<String>,
    pub file_name: Option<String>,
    pub size_bytes: Option<u64>,
    pub claim_token: Option<String>,
    /// Failures of a deletion so far.
    pub tries: u32,
    pub last_error: Option<String>,
    /// When a deletion is tried next.
    pub due_at: DateTime<Utc>,
    /// By the database's clock.
    pub created_at: DateTime<Utc>,
    /// When it was declared or taken over last.
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str = "id, provider_id, subject, content_sha256, file_name, size_bytes, claim_token, tries, last_error, \
     due_at, created_at, updated_at";

/// What a new intent says.
#[derive(Debug, Clone)]
pub struct NewIntent<'a> {
    pub provider_id: &'a str,
    pub operation: Operation,
    pub subject: &'a str,
    pub index_id: Option<IndexId>,
    pub content: Option<Content<'a>>,
    pub claim_token: &'a str,
}

/// The bytes that an upload is about.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    pub sha256: &'a str,
    pub file_name: &'a str,
    pub size_bytes: u64,
}

/// What [`declare`] found.
#[derive(Debug, Clone)]
pub enum Declared {
    /// A fresh intent: nothing can be at the provider yet.
    New(Intent),
    /// Somebody declared it before; the row is locked until the transaction ends.
    Existing(Intent),
}

/// Writes the intent, unless the subject has one already.
pub async fn declare(db: &mut MySqlConnection, intent: &NewIntent<'_>) -> Result<Declared, DbError> {
    for _ in 0..3 {
        if let Some(declared) = try_declare(db, intent).await? {
            return Ok(declared);
        }
    }
    Err(DbError::Conflict {
        what: "intent",
        id: intent.subject.to_owned(),
    })
}

/// `None`: it was there, and its holder resolved it before it could be read.
async fn try_declare(db: &mut MySqlConnection, intent: &NewIntent<'_>) -> Result<Option<Declared>, DbError> {
    let result = sqlx::query(
        "INSERT IGNORE INTO rag_provider_intents \
         (id, provider_id, operation, subject, index_id, content_sha256, file_name, size_bytes, claim_token, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))",
    )
    .bind(Text(IntentId::new()))
    .bind(intent.provider_id)
    .bind(intent.operation.as_str())
    .bind(intent.subject)
    .bind(intent.index_id.map(Text))
    .bind(intent.content.map(|content| content.sha256))
    .bind(intent.content.map(|content| content.file_name))
    .bind(intent.content.map(|content| content.size_bytes))
    .bind(intent.claim_token)
    .execute(&mut *db)
    .await?;
    let row = find_for_update(db, intent.provider_id, intent.operation, intent.subject).await?;
    Ok(row.map(|row| {
        if result.rows_affected() == 1 {
            Declared::New(row)
        } else {
            Declared::Existing(row)
        }
    }))
}

/// The intent of this operation on this subject, locked until the transaction ends.
pub async fn find_for_update(
    db: &mut MySqlConnection,
    provider: &str,
    operation: Operation,
    subject: &str,
) -> Result<Option<Intent>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_provider_intents WHERE provider_id = ? AND operation = ? AND subject = ? FOR UPDATE"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(provider)
        .bind(operation.as_str())
        .bind(subject)
        .fetch_optional(db)
        .await?)
}

/// Takes an intent over from a claim that the queue says is no longer live.
pub async fn take_over(
    db: &mut MySqlConnection,
    id: IntentId,
    dead_token: Option<&str>,
    claim_token: &str,
) -> Result<(), DbError> {
    let result =
        sqlx::query("UPDATE rag_provider_intents SET claim_token = ? WHERE id = ? AND claim_token <=> ?")
            .bind(claim_token)
            .bind(Text(id))
            .bind(dead_token)
            .execute(db)
            .await?;
    exactly_one(&result, "intent", id)
}

/// The outcome is recorded in this transaction: the intent has done its service.
pub async fn resolve(db: &mut MySqlConnection, id: IntentId, claim_token: &str) -> Result<(), DbError> {
    let result = sqlx::query("DELETE FROM rag_provider_intents WHERE id = ? AND claim_token = ?")
        .bind(Text(id))
        .bind(claim_token)
        .execute(db)
        .await?;
    exactly_one(&result, "intent", id)
}

/// Whether this file is on its way to the provider, or may be.
pub async fn is_uploading(db: &mut MySqlConnection, provider: &str, file: FileId) -> Result<bool, DbError> {
    exists(db, provider, Operation::UploadFile, &file.to_string()).await
}

async fn exists(
    db: &mut MySqlConnection,
    provider: &str,
    operation: Operation,
    subject: &str,
) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_intents WHERE provider_id = ? AND operation = ? AND subject = ?",
    )
    .bind(provider)
    .bind(operation.as_str())
    .bind(subject)
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Removes an intent that `dead_token` still holds and that no job will take over. Answers whether it did.
pub async fn give_up(
    db: &mut MySqlConnection,
    id: IntentId,
    dead_token: Option<&str>,
) -> Result<bool, DbError> {
    let result = sqlx::query("DELETE FROM rag_provider_intents WHERE id = ? AND claim_token <=> ?")
        .bind(Text(id))
        .bind(dead_token)
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// Uploads at a provider of files that are in none of its indexes: no build will come across them. Oldest first; `after` is
/// the (created_at, id) of the last one seen.
pub async fn list_abandoned_uploads(
    db: &mut MySqlConnection,
    provider: &str,
    after: Option<(DateTime<Utc>, IntentId)>,
    limit: u32,
) -> Result<Vec<Intent>, DbError> {
    let cursor = if after.is_some() {
        "AND (intent.created_at, intent.id) > (?, ?)"
    } else {
        ""
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_provider_intents AS intent \
         WHERE provider_id = ? AND operation = 'upload_file' AND NOT EXISTS ( \
             SELECT 1 FROM rag_index_files l JOIN rag_indexes i ON i.id = l.index_id AND i.deleted_at IS NULL \
             WHERE l.file_id = CONVERT(intent.subject USING ascii) COLLATE ascii_bin \
             AND i.provider_type = intent.provider_id) {cursor} \
         ORDER BY created_at, id LIMIT ?"
    );
    let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(provider);
    if let Some((created_at, id)) = after {
        query = query.bind(created_at).bind(Text(id));
    }
    Ok(query.bind(limit).fetch_all(db).await?)
}

/// Every upload of this local file that may be under way, at whatever provider.
pub async fn list_uploads_of_file(db: &mut MySqlConnection, file: FileId) -> Result<Vec<Intent>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_provider_intents WHERE operation = 'upload_file' AND subject = ? ORDER BY provider_id"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(file))
        .fetch_all(db)
        .await?)
}

/// Whether an upload of these bytes is under way at a provider, or may be, of whatever file; one intent may be left out.
pub async fn is_content_uploading(
    db: &mut MySqlConnection,
    provider: &str,
    content_sha256: &str,
    but: Option<IntentId>,
) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_intents \
         WHERE provider_id = ? AND operation = 'upload_file' AND content_sha256 = ? AND NOT (id <=> ?) LIMIT 1",
    )
    .bind(provider)
    .bind(content_sha256)
    .bind(but.map(Text))
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Whether a provider may have, or be about to have, a copy of this local file that no row names yet.
pub async fn is_upload_open(db: &mut MySqlConnection, file: FileId) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_intents WHERE operation = 'upload_file' AND subject = ? LIMIT 1",
    )
    .bind(Text(file))
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Whether any row of ours refers to this file of the provider: as a copy, an attachment, or a deletion.
pub async fn is_file_referenced(
    db: &mut MySqlConnection,
    provider: &str,
    external_file_id: &str,
) -> Result<bool, DbError> {
    Ok(is_file_in_use(db, provider, external_file_id).await?
        || exists(db, provider, Operation::DeleteFile, external_file_id).await?)
}

/// Whether this file of the provider is the copy of a file of ours, or is attached to a store of ours.
pub async fn is_file_in_use(
    db: &mut MySqlConnection,
    provider: &str,
    external_file_id: &str,
) -> Result<bool, DbError> {
    let found: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM rag_provider_file_uploads WHERE provider_id = ? AND external_file_id = ? AND status <> 'deleted') \
         OR EXISTS (SELECT 1 FROM rag_provider_file_uploads WHERE provider_id = ? AND files_api_id = ? AND status <> 'deleted') \
         OR EXISTS (SELECT 1 FROM rag_index_attachments WHERE external_file_id = ?)",
    )
    .bind(provider)
    .bind(external_file_id)
    .bind(provider)
    .bind(external_file_id)
    .bind(external_file_id)
    .fetch_one(db)
    .await?;
    Ok(found != 0)
}

/// Whether this store of the provider is an index's.
pub async fn is_store_referenced(
    db: &mut MySqlConnection,
    provider: &str,
    store: &str,
) -> Result<bool, DbError> {
    let row: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM rag_indexes WHERE provider_type = ? AND external_id = ? LIMIT 1")
            .bind(provider)
            .bind(store)
            .fetch_optional(db)
            .await?;
    Ok(row.is_some())
}

/// Whether anything of this index is on its way at a provider.
pub async fn any_of_index(db: &mut MySqlConnection, index_id: IndexId) -> Result<bool, DbError> {
    let row: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM rag_provider_intents WHERE index_id = ? LIMIT 1")
            .bind(Text(index_id))
            .fetch_optional(db)
            .await?;
    Ok(row.is_some())
}

/// Whether anything of this file is on its way at a provider: an upload, or a deletion that its own waits for.
pub async fn any_of_file(db: &mut MySqlConnection, file: FileId) -> Result<bool, DbError> {
    let found: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM rag_provider_intents WHERE local_file_id = ?) \
         OR EXISTS (SELECT 1 FROM rag_provider_intents WHERE operation = 'upload_file' AND subject = ?)",
    )
    .bind(Text(file))
    .bind(Text(file))
    .fetch_one(db)
    .await?;
    Ok(found != 0)
}

/// Whether the intent with this id, as text, is open.
pub async fn is_open(
    db: &mut MySqlConnection,
    provider: &str,
    operation: Operation,
    id: &str,
) -> Result<bool, DbError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM rag_provider_intents WHERE id = ? AND provider_id = ? AND operation = ?",
    )
    .bind(id)
    .bind(provider)
    .bind(operation.as_str())
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// The providers at which deletions wait, or uploads that may have been abandoned.
pub async fn list_providers_to_clean_up(db: &mut MySqlConnection) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT provider_id FROM rag_provider_intents \
         WHERE operation IN ('delete_file', 'delete_vector_store', 'upload_file') ORDER BY provider_id",
    )
    .fetch_all(db)
    .await?)
}
