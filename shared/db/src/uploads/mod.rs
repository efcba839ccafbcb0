//! `rag_provider_file_uploads`: the copy of each local file at each provider.
//!
//! A row that is `deleted` is a record of a copy that was: no function here sees it but those that speak of records, and
//! those that want the file at the provider again, which take the row back to `pending`.

mod deleted;

use chrono::{DateTime, Utc};
use rag_domain::{FileId, IndexId, UploadId, UploadStatus};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::error::on_duplicate;
use crate::sql::{Text, exactly_one, in_list, newest_first, pieces, push_list};

pub(crate) use deleted::revive;
pub use deleted::{
    Surplus, confirm_deleted, drop_record, mark_deleted, mark_deleted_of_file, mark_surplus_deleted,
    prune_deleted, set_deletion_error,
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
    /// What kind of failure `last_error` speaks of.
    pub error_code: Option<String>,
    /// Why the last try failed; of a row that is `pending`, a try that is made again.
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
/// … nobody goes on with it.
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

/// Writes down a copy that the provider has already. [`DbError::Duplicate`] if the file has one there; a record of one that
/// was deleted becomes its row.
pub async fn insert_uploaded(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
    external_file_id: &str,
) -> Result<UploadId, DbError> {
    if !revive(db, provider, file, sha256).await? {
        sqlx::query(
            "INSERT INTO rag_provider_file_uploads (id, provider_id, local_file_id, content_sha256, status) \
             VALUES (?, ?, ?, ?, 'pending')",
        )
        .bind(Text(UploadId::new()))
        .bind(provider)
        .bind(Text(file))
        .bind(sha256)
        .execute(&mut *db)
        .await
        .map_err(on_duplicate("file upload"))?;
    }
    set_uploaded(db, provider, file, sha256, external_file_id, None).await?;
    let row = find(db, provider, file).await?;
    Ok(row.ok_or(DbError::NotFound("file upload"))?.id)
}

/// The content is wanted at the provider: makes the row, or moves it to `pending` for this content. An older copy's
/// `external_file_id` stays in the row until [`mark_uploaded`] replaces it, unless that copy was deleted.
pub async fn mark_pending(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_provider_file_uploads (id, provider_id, local_file_id, content_sha256, status) \
         VALUES (?, ?, ?, ?, 'pending') \
         ON DUPLICATE KEY UPDATE \
         external_file_id = IF(status = 'deleted', NULL, external_file_id), \
         files_api_id = IF(status = 'deleted', NULL, files_api_id), \
         external_uploaded_at = IF(status = 'deleted', NULL, external_uploaded_at), \
         raw_provider_json = IF(status = 'deleted', NULL, raw_provider_json), \
         deleted_at = NULL, content_sha256 = VALUES(content_sha256), error_code = NULL, last_error = NULL, status = 'pending'",
    )
    .bind(Text(UploadId::new()))
    .bind(provider)
    .bind(Text(file))
    .bind(sha256)
    .execute(db)
    .await?;
    Ok(())
}

/// The copy that is about to be made, or was found, goes by this name.
pub async fn set_name(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    file_name: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_file_uploads SET file_name = ? WHERE provider_id = ? AND local_file_id = ?",
    )
    .bind(file_name)
    .bind(provider)
    .bind(Text(file))
    .execute(db)
    .await?;
    Ok(())
}

/// The provider has this content, under this id in its Files API. Answers that id of an older copy that this one replaces: retire it in the same
/// transaction (`intents::retire_file`).
pub async fn mark_uploaded(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
    external_file_id: &str,
    raw: &Value,
) -> Result<Option<String>, DbError> {
    let older: Option<Option<String>> = sqlx::query_scalar(
        "SELECT COALESCE(files_api_id, external_file_id) FROM rag_provider_file_uploads \
         WHERE provider_id = ? AND local_file_id = ? FOR UPDATE",
    )
    .bind(provider)
    .bind(Text(file))
    .fetch_optional(&mut *db)
    .await?;
    set_uploaded(db, provider, file, sha256, external_file_id, Some(raw)).await?;
    Ok(older.flatten().filter(|older| older != external_file_id))
}

/// Somebody says that the provider has this content, under this id in its Files API. What it called the file in stores stays
/// known if it is the same copy.
pub async fn set_copy(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
    files_api_id: &str,
) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET \
         external_file_id = IF(COALESCE(files_api_id, external_file_id) <=> ?, external_file_id, ?), \
         files_api_id = IF(files_api_id <=> ?, files_api_id, NULL), \
         file_name = NULL, external_uploaded_at = COALESCE(external_uploaded_at, UTC_TIMESTAMP(6)), status = 'uploaded' \
         WHERE provider_id = ? AND local_file_id = ? AND content_sha256 = ? AND status IN {}",
        in_list(UploadStatus::Uploaded.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(files_api_id)
        .bind(files_api_id)
        .bind(files_api_id)
        .bind(provider)
        .bind(Text(file))
        .bind(sha256)
        .execute(db)
        .await?;
    exactly_one(&result, "upload of file", file)
}

async fn set_uploaded(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
    external_file_id: &str,
    raw: Option<&Value>,
) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET external_file_id = ?, files_api_id = NULL, external_uploaded_at = UTC_TIMESTAMP(6), status = 'uploaded', \
         error_code = NULL, last_error = NULL, raw_provider_json = ? \
         WHERE provider_id = ? AND local_file_id = ? AND content_sha256 = ? AND status IN {}",
        in_list(UploadStatus::Uploaded.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(external_file_id)
        .bind(raw.map(Json))
        .bind(provider)
        .bind(Text(file))
        .bind(sha256)
        .execute(db)
        .await?;
    exactly_one(&result, "upload of file", file)
}

/// A store calls this file `store_file_id`: from now on that is the row's `external_file_id`. Nothing changes where
/// the Files API calls it so too, or the copy has been replaced meanwhile.
pub async fn set_store_file_id(
    db: &mut MySqlConnection,
    provider: &str,
    files_api_id: &str,
    store_file_id: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_file_uploads SET files_api_id = ?, external_file_id = ? \
         WHERE provider_id = ? AND (files_api_id = ? OR (files_api_id IS NULL AND external_file_id = ?)) \
         AND external_file_id <> ? AND status <> 'deleted'",
    )
    .bind(files_api_id)
    .bind(store_file_id)
    .bind(provider)
    .bind(files_api_id)
    .bind(files_api_id)
    .bind(store_file_id)
    .execute(db)
    .await?;
    Ok(())
}

/// The upload failed for good; `error`: what kind of failure, and in words.
pub async fn mark_failed(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
    (code, error): (&str, &str),
) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET status = 'failed', error_code = ?, last_error = ? \
         WHERE provider_id = ? AND local_file_id = ? AND content_sha256 = ? AND status IN {}",
        in_list(UploadStatus::Failed.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(code)
        .bind(error)
        .bind(provider)
        .bind(Text(file))
        .bind(sha256)
        .execute(db)
        .await?;
    exactly_one(&result, "upload of file", file)
}

/// A try failed, and another one is to follow. Nothing is written to a row that is not `pending`.
pub async fn note_error(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    (code, error): (&str, &str),
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_file_uploads SET error_code = ?, last_error = ? \
         WHERE provider_id = ? AND local_file_id = ? AND status = 'pending'",
    )
    .bind(code)
    .bind(error)
    .bind(provider)
    .bind(Text(file))
    .execute(db)
    .await?;
    Ok(())
}

/// Of a row `upload`: no build that is under way looks after it.
const NO_BUILD: &str = "NOT EXISTS ( \
             SELECT 1 FROM rag_index_files l JOIN rag_indexes i ON i.id = l.index_id \
             JOIN rag_index_builds b ON b.index_id = i.id AND b.finished_at IS NULL \
             WHERE l.file_id = upload.local_file_id AND i.provider_type = upload.provider_id)";

/// Nobody goes on with the upload: a row that still says `pending` becomes `failed`. One that a build which is under way
/// looks after stays, and so does any other; the answer tells whether it was so.
pub async fn give_up(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    error: &str,
) -> Result<bool, DbError> {
    let sql = format!(
        "UPDATE rag_provider_file_uploads AS upload SET status = 'failed', \
         error_code = COALESCE(error_code, '{GIVEN_UP}'), last_error = ? \
         WHERE provider_id = ? AND local_file_id = ? AND status IN {} AND {NO_BUILD}",
        in_list(UploadStatus::Failed.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(error)
        .bind(provider)
        .bind(Text(file))
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// A build has ended without its uploads: copies of its files that still say `pending` become `failed`, with what their own
/// last try met, else with `error`. Those that another build, or a job of their own, looks after stay.
pub async fn give_up_of_index(
    db: &mut MySqlConnection,
    provider: &str,
    index: IndexId,
    error: &str,
) -> Result<u64, DbError> {
    let sql = format!(
        "UPDATE rag_provider_file_uploads AS upload JOIN rag_index_files AS link ON link.file_id = upload.local_file_id \
         SET upload.status = 'failed', upload.error_code = COALESCE(upload.error_code, '{GIVEN_UP}'), \
         upload.last_error = COALESCE(upload.last_error, ?) \
         WHERE link.index_id = ? AND upload.provider_id = ? AND upload.status IN {} AND {NO_BUILD} \
         AND NOT EXISTS (SELECT 1 FROM rag_provider_upload_jobs job \
             WHERE job.provider_id = upload.provider_id AND job.local_file_id = upload.local_file_id)",
        in_list(UploadStatus::Failed.predecessors())
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(error)
        .bind(Text(index))
        .bind(provider)
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}

/// A build begins: uploads of its files that failed before get another try; with `force` all of them are made anew.
pub async fn reset_for_build(
    db: &mut MySqlConnection,
    provider: &str,
    index: IndexId,
    force: bool,
) -> Result<u64, DbError> {
    let which = if force {
        "u.status IN ('failed', 'uploaded')"
    } else {
        "u.status = 'failed'"
    };
    let sql = format!(
        "UPDATE rag_provider_file_uploads u JOIN rag_index_files l ON l.file_id = u.local_file_id \
         SET u.status = 'pending', u.error_code = NULL, u.last_error = NULL WHERE l.index_id = ? AND u.provider_id = ? AND {which}"
    );
    Ok(sqlx::query(AssertSqlSafe(sql))
        .bind(Text(index))
        .bind(provider)
        .execute(db)
        .await?
        .rows_affected())
}

/// The provider no longer knows this copy: the next build uploads it again.
pub async fn mark_lost(db: &mut MySqlConnection, provider: &str, files_api_id: &str) -> Result<u64, DbError> {
    let result = sqlx::query(
        "UPDATE rag_provider_file_uploads SET status = 'pending', external_file_id = NULL, files_api_id = NULL \
         WHERE provider_id = ? AND status = 'uploaded' \
         AND (files_api_id = ? OR (files_api_id IS NULL AND external_file_id = ?))",
    )
    .bind(provider)
    .bind(files_api_id)
    .bind(files_api_id)
    .execute(db)
    .await?;
    Ok(result.rows_affected())
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
