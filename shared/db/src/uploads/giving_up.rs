//! Uploads that no build and no job works on any more: `pending` rows become `failed`.

use rag_domain::{FileId, IndexId, UploadStatus};
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::GIVEN_UP;
use crate::DbError;
use crate::sql::{Move, Text, make_move};

/// A condition on the row `upload`: no build that is at work needs it.
const NO_BUILD: &str = "NOT EXISTS ( \
             SELECT 1 FROM rag_index_files l JOIN rag_indexes i ON i.id = l.index_id \
             JOIN rag_index_builds b ON b.index_id = i.id AND b.finished_at IS NULL \
             WHERE l.file_id = upload.local_file_id AND i.provider_type = upload.provider_id)";

/// Fails a `pending` upload that no build works on. Answers whether it did.
pub async fn give_up(
    db: &mut MySqlConnection,
    provider: &str,
    file: FileId,
    error: &str,
) -> Result<bool, DbError> {
    let Move { set, legal } = make_move("status", &UploadStatus::FAIL);
    let sql = format!(
        "UPDATE rag_provider_file_uploads AS upload SET {set}, \
         error_code = COALESCE(error_code, '{GIVEN_UP}'), last_error = ? \
         WHERE provider_id = ? AND local_file_id = ? AND {legal} AND {NO_BUILD}"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(error)
        .bind(provider)
        .bind(Text(file))
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// A build has ended without its uploads: `pending` copies of its files become `failed`, with the error of their own last
/// try, else with `error`. Those that another build or a job of their own works on stay `pending`.
pub async fn give_up_of_index(
    db: &mut MySqlConnection,
    provider: &str,
    index: IndexId,
    error: &str,
) -> Result<u64, DbError> {
    let Move { set, legal } = make_move("upload.status", &UploadStatus::FAIL);
    let sql = format!(
        "UPDATE rag_provider_file_uploads AS upload JOIN rag_index_files AS link ON link.file_id = upload.local_file_id \
         SET {set}, upload.error_code = COALESCE(upload.error_code, '{GIVEN_UP}'), \
         upload.last_error = COALESCE(upload.last_error, ?) \
         WHERE link.index_id = ? AND upload.provider_id = ? AND {legal} AND {NO_BUILD} \
         AND NOT EXISTS (SELECT 1 FROM rag_provider_upload_jobs job \
             WHERE job.provider_id = upload.provider_id AND job.local_file_id = upload.local_file_id)"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(error)
        .bind(Text(index))
        .bind(provider)
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}
