//! `rag_provider_upload_jobs`: which jobs are bringing single files to providers, so that a copy's row ends when its job ends
//! without saying so.

use rag_domain::FileId;
use sqlx::{FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::Text;

/// A row of `rag_provider_upload_jobs`.
#[derive(Debug, Clone, FromRow)]
pub struct UploadJob {
    /// The queue's id of the job.
    pub job_id: String,
    pub provider_id: String,
    #[sqlx(try_from = "Text<FileId>")]
    pub local_file_id: FileId,
}

/// The job takes care of the copy from now on, again perhaps.
pub async fn begin(
    db: &mut MySqlConnection,
    job_id: &str,
    provider: &str,
    file: FileId,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_provider_upload_jobs (job_id, provider_id, local_file_id, begun_at) \
         VALUES (?, ?, ?, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE begun_at = VALUES(begun_at)",
    )
    .bind(job_id)
    .bind(provider)
    .bind(Text(file))
    .execute(db)
    .await?;
    Ok(())
}

/// The copy's row says how it ended. The answer tells whether anybody has to end it still.
pub async fn end(db: &mut MySqlConnection, job_id: &str) -> Result<bool, DbError> {
    let result = sqlx::query("DELETE FROM rag_provider_upload_jobs WHERE job_id = ?")
        .bind(job_id)
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// No other transaction begins or ends it until the transaction ends.
pub async fn lock(tx: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    sqlx::query("SELECT job_id FROM rag_provider_upload_jobs WHERE job_id = ? FOR UPDATE")
        .bind(job_id)
        .fetch_optional(tx)
        .await?;
    Ok(())
}

/// Those that began a while ago, by job id, behind `after`: their jobs may have ended without them.
pub async fn list_stale(
    db: &mut MySqlConnection,
    after: &str,
    older_than_seconds: u32,
    limit: u32,
) -> Result<Vec<UploadJob>, DbError> {
    Ok(sqlx::query_as(
        "SELECT job_id, provider_id, local_file_id FROM rag_provider_upload_jobs \
         WHERE job_id > ? AND begun_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND ORDER BY job_id LIMIT ?",
    )
    .bind(after)
    .bind(older_than_seconds)
    .bind(limit)
    .fetch_all(db)
    .await?)
}
