//! `rag_provider_file_uploads`: the copy of each local file at each provider.
//!
//! A `deleted` row is the record of a copy that was deleted. No function sees it, except those about records and those that
//! want the file at the provider again, which move the row back to `pending`.
//!
//! Here `external_file_id` is what a store calls the copy, where a store has its own name for it, and
//! `files_api_id` is then the id in the Files API. In `rag_index_attachments` `external_file_id` always is the id in the
//! Files API, and `external_store_file_id` the one in the store.

mod compared;
mod deleted;
mod giving_up;
mod groups;
mod moves;

use chrono::{DateTime, Utc};
use rag_domain::{FileId, IndexId, UploadId, UploadStatus};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, newest_first, pieces, push_list};

pub use compared::{FoundEqual, clear_equal, mark_equal};
pub(crate) use deleted::revive;
pub use deleted::{
    Surplus, confirm_deleted, drop_record, mark_deleted, mark_deleted_of_file, mark_surplus_deleted,
    prune_deleted, set_deletion_error,
};
pub use giving_up::{give_up, give_up_of_index};
pub use groups::{Arrived, Wanted, list_some, mark_pending_many, mark_uploaded_many};
pub use moves::{
    insert_uploaded, mark_failed, mark_lost, mark_pending, note_error, reset_for_build, set_copy,
    set_store_file_id,
};

/// A row of `rag_provider_file_uploads`.
#[derive(Debug, Clone, FromRow)]
pub struct Upload {
    #[sqlx(try_from = "Text<UploadId>")]
    pub id: UploadId,
    pub provider_id: String,
    #[sqlx(try_from = "Text<FileId>")]
    pub local_file_id: FileId,
    /// As it was sent; `None`: not known.
    pub file_name: Option<String>,
    /// As wants it: the id in the Files API, or, where the provider has another one there, the id within a store.
    pub external_file_id: Option<String>,
    /// The id in the Files API, where `external_file_id` is another one.
    pub files_api_id: Option<String>,
    pub external_uploaded_at: Option<DateTime<Utc>>,
    pub content_sha256: String,
    #[sqlx(try_from = "Text<UploadStatus>")]
    pub status: UploadStatus,
    /// The kind of failure that `last_error` describes.
    pub error_code: Option<String>,
    /// Why the last try failed. A `pending` row is tried again.
    pub last_error: Option<String>,
    #[sqlx(json(nullable))]
    pub raw_provider_json: Option<Value>,
    /// When the provider confirmed that the copy of a `deleted` row is gone.
    pub deleted_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str = "id, provider_id, local_file_id, file_name, external_file_id, files_api_id, external_uploaded_at, content_sha256, \
     status, error_code, last_error, raw_provider_json, deleted_at, created_at, updated_at";

/// An `error_code` of our own: the contents are gone from where they lay, which is known to be readable.
pub const CONTENTS_MISSING: &str = "contents_missing";
/// … no build and no job works on it any more.
pub const GIVEN_UP: &str = "given_up";
/// … an admin set the row to failed.
pub const SET_BY_ADMIN: &str = "set_by_admin";

pub async fn find(db: &mut MySqlConnection, provider: &str, file: FileId) -> Result<Option<Upload>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_provider_file_uploads \
         WHERE provider_id = ? AND local_file_id = ? AND status <> 'deleted'"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(provider)
        .bind(Text(file))
        .fetch_optional(db)
        .await?)
}

/// Every provider's copy of one file.
pub async fn list_of_file(db: &mut MySqlConnection, file: FileId) -> Result<Vec<Upload>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_provider_file_uploads \
         WHERE local_file_id = ? AND status <> 'deleted' ORDER BY provider_id"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(file))
        .fetch_all(db)
        .await?)
}

/// All rows at a provider, newest first; `before` is the (created_at, id) of the last row of the page before. `status`: those
/// with this one alone, records of deleted copies included; without it those are left out.
pub async fn list(
    db: &mut MySqlConnection,
    provider: &str,
    status: Option<UploadStatus>,
    before: Option<(DateTime<Utc>, UploadId)>,
    limit: u32,
) -> Result<Vec<Upload>, DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_provider_file_uploads WHERE provider_id = ")
        .push_bind(provider.to_owned());
    match status {
        Some(status) => query.push(" AND status = ").push_bind(Text(status)),
        None => query.push(" AND status <> 'deleted'"),
    };
    newest_first(&mut query, before, limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// The row, records of deleted copies included.
pub async fn get(db: &mut MySqlConnection, provider: &str, id: UploadId) -> Result<Upload, DbError> {
    one(db, provider, id, "").await
}

/// As [`get`], and locks the row until the transaction ends.
pub async fn lock(db: &mut MySqlConnection, provider: &str, id: UploadId) -> Result<Upload, DbError> {
    one(db, provider, id, "FOR UPDATE").await
}

async fn one(
    db: &mut MySqlConnection,
    provider: &str,
    id: UploadId,
    locking: &'static str,
) -> Result<Upload, DbError> {
    let sql =
        format!("SELECT {COLUMNS} FROM rag_provider_file_uploads WHERE id = ? AND provider_id = ? {locking}");
    let row = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .bind(provider)
        .fetch_optional(db)
        .await?;
    row.ok_or(DbError::NotFound("file upload"))
}

/// How many of an index's files have a copy at its provider, of whatever version.
pub async fn count_of_index(
    db: &mut MySqlConnection,
    index: IndexId,
    provider: &str,
) -> Result<u64, DbError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM rag_index_files l JOIN rag_provider_file_uploads u ON u.local_file_id = l.file_id \
         WHERE l.index_id = ? AND u.provider_id = ? AND u.external_file_id IS NOT NULL AND u.status <> 'deleted'",
    )
    .bind(Text(index))
    .bind(provider)
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}

/// The current copies of these files, as the Files API calls them; their rows are locked against replacement until the
/// transaction ends.
pub async fn lock_current(
    db: &mut MySqlConnection,
    provider: &str,
    files: &[FileId],
) -> Result<Vec<(FileId, String)>, DbError> {
    let mut found = Vec::new();
    // As everybody locks them.
    let mut files = files.to_vec();
    files.sort_unstable();
    for chunk in pieces(&files) {
        let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(
            "SELECT local_file_id, COALESCE(files_api_id, external_file_id) FROM rag_provider_file_uploads \
             WHERE status = 'uploaded' AND external_file_id IS NOT NULL AND provider_id = ",
        );
        query.push_bind(provider).push(" AND local_file_id IN ");
        push_list(&mut query, chunk.iter().copied().map(Text));
        query.push(" ORDER BY local_file_id LOCK IN SHARE MODE");
        let rows: Vec<(Text<FileId>, String)> = query.build_query_as().fetch_all(&mut *db).await?;
        found.extend(rows.into_iter().map(|(id, external)| (id.0, external)));
    }
    Ok(found)
}
