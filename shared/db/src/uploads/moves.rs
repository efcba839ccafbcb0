//! Moves of an upload from `pending` to `uploaded` or `failed`, and back to `pending`.

use rag_domain::{FileId, IndexId, UploadId, UploadStatus};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{find, revive};
use crate::DbError;
use crate::error::on_duplicate;
use crate::sql::{Move, Text, exactly_one, make_move};

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
/// `external_file_id` stays in the row until [`super::mark_uploaded_many`] replaces it, unless that copy was deleted.
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

/// Somebody says that the provider has this content, under this id in its Files API. What it called the file in stores stays
/// known if it is the same copy.
pub async fn set_copy(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
    files_api_id: &str,
) -> Result<(), DbError> {
    let Move { set, legal } = make_move("status", &UploadStatus::COMPLETE);
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET {set}, \
         external_file_id = IF(COALESCE(files_api_id, external_file_id) <=> ?, external_file_id, ?), \
         files_api_id = IF(files_api_id <=> ?, files_api_id, NULL), \
         file_name = NULL, external_uploaded_at = COALESCE(external_uploaded_at, UTC_TIMESTAMP(6)) \
         WHERE provider_id = ? AND local_file_id = ? AND content_sha256 = ? AND {legal}"
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
    let Move { set, legal } = make_move("status", &UploadStatus::COMPLETE);
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET {set}, external_file_id = ?, files_api_id = NULL, \
         external_uploaded_at = UTC_TIMESTAMP(6), error_code = NULL, last_error = NULL, raw_provider_json = ? \
         WHERE provider_id = ? AND local_file_id = ? AND content_sha256 = ? AND {legal}"
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
    let Move { set, legal } = make_move("status", &UploadStatus::FAIL);
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET {set}, error_code = ?, last_error = ? \
         WHERE provider_id = ? AND local_file_id = ? AND content_sha256 = ? AND {legal}"
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

/// A build begins: uploads of its files that failed before get another try; with `force` all of them are made anew.
pub async fn reset_for_build(
    db: &mut MySqlConnection,
    provider: &str,
    index: IndexId,
    force: bool,
) -> Result<u64, DbError> {
    let transition = if force {
        UploadStatus::FORCE
    } else {
        UploadStatus::RETRY
    };
    let Move { set, legal } = make_move("u.status", &transition);
    let sql = format!(
        "UPDATE rag_provider_file_uploads u JOIN rag_index_files l ON l.file_id = u.local_file_id \
         SET {set}, u.error_code = NULL, u.last_error = NULL WHERE l.index_id = ? AND u.provider_id = ? AND {legal}"
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
    let Move { set, legal } = make_move("status", &UploadStatus::LOSE);
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET {set}, external_file_id = NULL, files_api_id = NULL \
         WHERE provider_id = ? AND {legal} AND (files_api_id = ? OR (files_api_id IS NULL AND external_file_id = ?))"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(provider)
        .bind(files_api_id)
        .bind(files_api_id)
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}
