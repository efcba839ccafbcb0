//! Copies that are deleted at their provider: the row becomes a record with the status `deleted`, and is removed
//! some time after its file is gone.
//!
//! The row changes in the transaction that writes the deletion's intent; from then on no query counts it as a copy.
//! `deleted_at` says when the provider confirmed the deletion, `last_error` why it has not.

use rag_domain::{FileId, UploadId, UploadStatus};
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Move, Text, exactly_one, make_move, push_list};

/// The file is wanted at the provider again: its record becomes a row without a copy. Answers whether there was one.
pub(crate) async fn revive(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    sha256: &str,
) -> Result<bool, DbError> {
    let Move { set, legal } = make_move("status", &UploadStatus::REVIVE);
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET {set}, content_sha256 = ?, file_name = NULL, \
         external_file_id = NULL, files_api_id = NULL, external_uploaded_at = NULL, raw_provider_json = NULL, \
         last_error = NULL, deleted_at = NULL WHERE provider_id = ? AND local_file_id = ? AND {legal}"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(sha256)
        .bind(provider)
        .bind(Text(file))
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// A row with a copy becomes a record. A row that never had a copy is removed, and so is a record. The caller retires the
/// copy itself in the same transaction.
pub async fn mark_deleted(db: &mut MySqlConnection, provider: &str, id: UploadId) -> Result<(), DbError> {
    let Move { set, legal } = make_move("status", &UploadStatus::DELETE);
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET {set}, last_error = NULL, deleted_at = NULL \
         WHERE id = ? AND provider_id = ? AND external_file_id IS NOT NULL AND {legal}"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(Text(id))
        .bind(provider)
        .execute(&mut *db)
        .await?;
    if result.rows_affected() == 0 {
        return drop_record(db, provider, id).await;
    }
    exactly_one(&result, "file upload", id)
}

/// Removes a record, or a row without a copy.
pub async fn drop_record(db: &mut MySqlConnection, provider: &str, id: UploadId) -> Result<(), DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_provider_file_uploads WHERE id = ? AND provider_id = ? \
         AND (status = 'deleted' OR external_file_id IS NULL)",
    )
    .bind(Text(id))
    .bind(provider)
    .execute(db)
    .await?;
    exactly_one(&result, "file upload", id)
}

/// As [`mark_deleted`], for all rows of a file that is being deleted.
pub async fn mark_deleted_of_file(db: &mut MySqlConnection, file: FileId) -> Result<(), DbError> {
    sqlx::query(
        "DELETE FROM rag_provider_file_uploads WHERE local_file_id = ? AND external_file_id IS NULL AND status <> 'deleted'",
    )
    .bind(Text(file))
    .execute(&mut *db)
    .await?;
    let Move { set, legal } = make_move("status", &UploadStatus::DELETE);
    let sql = format!(
        "UPDATE rag_provider_file_uploads SET {set}, last_error = NULL, deleted_at = NULL \
         WHERE local_file_id = ? AND {legal}"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(Text(file))
        .execute(db)
        .await?;
    Ok(())
}

/// The provider has confirmed that this copy (as the Files API calls it) is gone.
pub async fn confirm_deleted(
    db: &mut MySqlConnection,
    provider: &str,
    files_api_id: &str,
) -> Result<(), DbError> {
    for column in COPY_IDS {
        let sql = format!(
            "UPDATE rag_provider_file_uploads SET deleted_at = UTC_TIMESTAMP(6), last_error = NULL \
             WHERE provider_id = ? AND {column} = ? AND status = 'deleted' AND deleted_at IS NULL"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(provider)
            .bind(files_api_id)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// The provider has failed to delete this copy (as the Files API calls it); it will be tried again.
pub async fn set_deletion_error(
    db: &mut MySqlConnection,
    provider: &str,
    files_api_id: &str,
    error: &str,
) -> Result<(), DbError> {
    for column in COPY_IDS {
        let sql = format!(
            "UPDATE rag_provider_file_uploads SET last_error = ? \
             WHERE provider_id = ? AND {column} = ? AND status = 'deleted' AND deleted_at IS NULL"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(error)
            .bind(provider)
            .bind(files_api_id)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// The columns that may hold the Files API's id of a copy; each has an index.
const COPY_IDS: [&str; 2] = ["external_file_id", "files_api_id"];

/// Removes records of files that are gone and that have not changed for so long, `limit` at most. Answers how many.
pub async fn prune_deleted(
    db: &mut MySqlConnection,
    older_than_seconds: u64,
    limit: u32,
) -> Result<u64, DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_provider_file_uploads WHERE status = 'deleted' \
         AND updated_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND \
         AND NOT EXISTS (SELECT 1 FROM rag_files f WHERE f.id = rag_provider_file_uploads.local_file_id) \
         ORDER BY updated_at LIMIT ?",
    )
    .bind(older_than_seconds)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// A copy that is deleted with an index.
#[derive(Debug, Clone, FromRow)]
pub struct Surplus {
    #[sqlx(try_from = "Text<FileId>")]
    pub local_file_id: FileId,
    /// In the Files API.
    pub external_file_id: Option<String>,
}

#[derive(FromRow)]
struct SurplusRow {
    #[sqlx(try_from = "Text<UploadId>")]
    id: UploadId,
    #[sqlx(flatten)]
    surplus: Surplus,
}

/// Turns the copies of these files at a provider into records, except where an index there links the file, an upload of it is
/// under way, or the copy was imported. Answers which. The caller holds the locks of the files.
pub async fn mark_surplus_deleted(
    db: &mut MySqlConnection,
    provider: &str,
    files: &[FileId],
) -> Result<Vec<Surplus>, DbError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(
        "SELECT u.id, u.local_file_id, COALESCE(u.files_api_id, u.external_file_id) AS external_file_id \
         FROM rag_provider_file_uploads u LEFT JOIN rag_files f ON f.id = u.local_file_id \
         WHERE u.status <> 'deleted' AND u.provider_id = ",
    );
    query.push_bind(provider).push(" AND u.local_file_id IN ");
    push_list(&mut query, files.iter().copied().map(Text));
    query.push(
        " AND NOT (f.external_file_id <=> COALESCE(u.files_api_id, u.external_file_id) AND f.external_file_id IS NOT NULL) \
         AND NOT EXISTS (SELECT 1 FROM rag_index_files l JOIN rag_indexes i ON i.id = l.index_id \
             WHERE l.file_id = u.local_file_id AND i.provider_type = u.provider_id AND i.deleted_at IS NULL) \
         AND NOT EXISTS (SELECT 1 FROM rag_provider_intents n WHERE n.provider_id = u.provider_id \
             AND n.operation = 'upload_file' AND n.subject = CONVERT(u.local_file_id USING utf8mb4) COLLATE utf8mb4_bin)",
    );
    let rows: Vec<SurplusRow> = query.build_query_as().fetch_all(&mut *db).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    // A row that never had a copy leaves no record.
    let mut delete = sqlx::QueryBuilder::<sqlx::MySql>::new(
        "DELETE FROM rag_provider_file_uploads WHERE external_file_id IS NULL AND id IN ",
    );
    push_list(&mut delete, rows.iter().map(|row| Text(row.id)));
    delete.build().execute(&mut *db).await?;
    let Move { set, legal } = make_move("status", &UploadStatus::DELETE);
    let mut update = sqlx::QueryBuilder::<sqlx::MySql>::new(format!(
        "UPDATE rag_provider_file_uploads SET {set}, last_error = NULL, deleted_at = NULL WHERE {legal} AND id IN "
    ));
    push_list(&mut update, rows.iter().map(|row| Text(row.id)));
    update.build().execute(db).await?;
    Ok(rows.into_iter().map(|row| row.surplus).collect())
}
