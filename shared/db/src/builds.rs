//! `rag_index_builds`: the progress of builds, for callers and for the worker that continues a build.

use chrono::{DateTime, Utc};
use rag_domain::{DomainId, IndexId, IndexingStatus};
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::attachments;
use crate::indexes::{self, Index};
use crate::sql::{Text, exactly_one, push_list};
use crate::uploads;

/// A row of `rag_index_builds`.
#[derive(Debug, Clone, FromRow)]
pub struct Build {
    /// The queue's id of the job.
    pub job_id: String,
    #[sqlx(try_from = "Text<IndexId>")]
    pub index_id: IndexId,
    #[sqlx(try_from = "Text<DomainId>")]
    pub domain_id: DomainId,
    /// `ensure_vector_store`, `upload_files`, `attach_files`, `await_indexing`, `detach_files`, `verify` or `finish`.
    pub step: String,
    /// The last complete listing of the store.
    pub listed_at: Option<DateTime<Utc>>,
    /// How often the verification before the end found something to repair.
    pub repair_rounds: u32,
    /// Something may have had an effect on the store that no row shows: only a complete listing can verify it.
    pub needs_listing: bool,
    #[sqlx(flatten)]
    pub progress: Progress,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
}

/// The progress of a build, in files and bytes. The counts are of the composition as it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow, serde::Serialize)]
pub struct Progress {
    pub files_total: u32,
    /// Files with a current copy at the provider.
    pub files_uploaded: u32,
    /// Files that the provider accepted into the store.
    pub files_attached: u32,
    pub files_completed: u32,
    pub files_failed: u32,
    pub bytes_total: u64,
    pub bytes_uploaded: u64,
}

const COLUMNS: &str = "job_id, index_id, domain_id, step, listed_at, repair_rounds, needs_listing, files_total, files_uploaded, files_attached, files_completed, \
     files_failed, bytes_total, bytes_uploaded, started_at, finished_at, updated_at";

/// Makes the row if this job has none; the answer tells whether it is new, that is, whether the build begins now. The caller
/// holds the lock of the index.
pub async fn begin(
    db: &mut MySqlConnection,
    job_id: &str,
    index: IndexId,
    domain: &DomainId,
    first_step: &str,
) -> Result<bool, DbError> {
    let result = sqlx::query(
        "INSERT IGNORE INTO rag_index_builds (job_id, index_id, domain_id, step, started_at) VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6))",
    )
    .bind(job_id)
    .bind(Text(index))
    .bind(domain.as_str())
    .bind(first_step)
    .execute(&mut *db)
    .await?;
    if result.rows_affected() == 0 {
        return Ok(false);
    }
    // For the status, which is asked for all the time.
    sqlx::query("UPDATE rag_indexes SET last_job_id = ?, updated_at = updated_at WHERE id = ?")
        .bind(job_id)
        .bind(Text(index))
        .execute(db)
        .await?;
    Ok(true)
}

pub async fn find(db: &mut MySqlConnection, job_id: &str) -> Result<Option<Build>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_index_builds WHERE job_id = ?");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(job_id)
        .fetch_optional(db)
        .await?)
}

/// The builds of these jobs, in no order.
pub async fn find_many(db: &mut MySqlConnection, job_ids: &[String]) -> Result<Vec<Build>, DbError> {
    if job_ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_index_builds WHERE job_id IN ");
    push_list(&mut query, job_ids);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// The build of an index that began last.
pub async fn find_latest(db: &mut MySqlConnection, index: IndexId) -> Result<Option<Build>, DbError> {
    let sql =
        format!("SELECT {COLUMNS} FROM rag_index_builds WHERE index_id = ? ORDER BY started_at DESC LIMIT 1");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(index))
        .fetch_optional(db)
        .await?)
}

pub async fn set_step(db: &mut MySqlConnection, job_id: &str, step: &str) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_index_builds SET step = ?, updated_at = UTC_TIMESTAMP(6) WHERE job_id = ? AND finished_at IS NULL",
    )
    .bind(step)
    .bind(job_id)
    .execute(db)
    .await?;
    exactly_one(&result, "build", job_id)
}

/// Changes the row of a build that is not over.
async fn update(db: &mut MySqlConnection, job_id: &str, set: &'static str) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE rag_index_builds SET {set}, updated_at = UTC_TIMESTAMP(6) WHERE job_id = ? AND finished_at IS NULL"
    );
    let result = sqlx::query(AssertSqlSafe(sql)).bind(job_id).execute(db).await?;
    exactly_one(&result, "build", job_id)
}

/// The store has just been listed, all of it.
pub async fn set_listed(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    update(db, job_id, "listed_at = UTC_TIMESTAMP(6)").await
}

/// Something may have had an effect on the store that no row shows.
pub async fn set_needs_listing(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    update(db, job_id, "needs_listing = TRUE").await
}

/// The verification found something to repair: another round.
pub async fn count_repair(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    update(
        db,
        job_id,
        "repair_rounds = repair_rounds + 1, needs_listing = TRUE",
    )
    .await
}

pub async fn set_progress(
    db: &mut MySqlConnection,
    job_id: &str,
    progress: &Progress,
) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_index_builds SET files_total = ?, files_uploaded = ?, files_attached = ?, files_completed = ?, \
         files_failed = ?, bytes_total = ?, bytes_uploaded = ?, updated_at = UTC_TIMESTAMP(6) \
         WHERE job_id = ? AND finished_at IS NULL",
    )
    .bind(progress.files_total)
    .bind(progress.files_uploaded)
    .bind(progress.files_attached)
    .bind(progress.files_completed)
    .bind(progress.files_failed)
    .bind(progress.bytes_total)
    .bind(progress.bytes_uploaded)
    .bind(job_id)
    .execute(db)
    .await?;
    exactly_one(&result, "build", job_id)
}

/// Counts how far the build has come, as its rows tell, and writes it down. A file whose strategy was changed and that waits
/// to be attached anew may be counted as it was until then.
pub async fn count_progress(db: &mut MySqlConnection, job_id: &str, index: IndexId) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_index_builds b JOIN ( \
             SELECT COUNT(*) AS files, COALESCE(SUM(f.size_bytes), 0) AS bytes, \
             COALESCE(SUM(u.status = 'uploaded'), 0) AS uploaded, \
             COALESCE(SUM(IF(u.status IN ('uploaded', 'failed'), f.size_bytes, 0)), 0) AS bytes_uploaded, \
             COALESCE(SUM(u.status = 'uploaded' AND a.attached_at IS NOT NULL), 0) AS attached, \
             COALESCE(SUM(u.status = 'uploaded' AND a.state = 'completed'), 0) AS completed, \
             COALESCE(SUM(u.status = 'failed' OR (u.status = 'uploaded' AND a.state IN ('failed', 'cancelled'))), 0) AS failed \
             FROM rag_indexes i JOIN rag_index_files l ON l.index_id = i.id \
             JOIN rag_files f ON f.id = l.file_id AND f.domain_id = i.domain_id AND f.deleted_at IS NULL \
             LEFT JOIN rag_provider_file_uploads u ON u.provider_id = i.provider_type AND u.local_file_id = f.id \
               AND u.content_sha256 = f.sha256 AND COALESCE(u.file_name, f.file_name) = f.file_name \
             LEFT JOIN rag_index_attachments a ON a.index_id = i.id AND a.local_file_id = f.id \
               AND a.external_file_id = COALESCE(u.files_api_id, u.external_file_id) AND a.content_sha256 = f.sha256 \
               AND a.state <> 'detaching' \
             WHERE i.id = ?) AS now \
         SET b.files_total = now.files, b.bytes_total = now.bytes, b.files_uploaded = now.uploaded, \
         b.bytes_uploaded = now.bytes_uploaded, b.files_attached = now.attached, b.files_completed = now.completed, \
         b.files_failed = now.failed, b.updated_at = UTC_TIMESTAMP(6) \
         WHERE b.job_id = ? AND b.finished_at IS NULL",
    )
    .bind(Text(index))
    .bind(job_id)
    .execute(db)
    .await?;
    exactly_one(&result, "build", job_id)
}

/// The build is over, however it ended.
pub async fn finish(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    update(db, job_id, "finished_at = UTC_TIMESTAMP(6)").await
}

/// Ends a build whose job ended without it, and with it the index, unless a newer build is what the index is
/// `in_progress` for. The answer tells whether the build was open.
///
/// The caller holds the lock of the index's row, if there is one still.
pub async fn abandon(
    db: &mut MySqlConnection,
    index: Option<&Index>,
    job_id: &str,
    error: &str,
) -> Result<bool, DbError> {
    let Some(build) = find(db, job_id)
        .await?
        .filter(|build| build.finished_at.is_none())
    else {
        return Ok(false);
    };
    let latest = find_latest(db, build.index_id).await?;
    finish(db, job_id).await?;
    let is_latest = latest.is_some_and(|latest| latest.job_id == job_id);
    if let Some(index) =
        index.filter(|index| is_latest && index.indexing_status == IndexingStatus::InProgress)
    {
        let told = format!("{error}{}", what_stays(db, index).await?);
        indexes::mark_built(db, index.id, IndexingStatus::Failed, Some(&told)).await?;
        give_up_rest(db, index, error).await?;
    }
    Ok(true)
}

/// A build has ended early: what it had not begun fails, and each row says so. What the provider was asked for stays
/// as it is. The caller has finished the build, and holds the index's lock. Answers how many
/// copies and attachments there were.
pub async fn give_up_rest(
    db: &mut MySqlConnection,
    index: &Index,
    error: &str,
) -> Result<(u64, u64), DbError> {
    let copies = uploads::give_up_of_index(db, &index.provider_type, index.id, error).await?;
    let attachments = attachments::give_up(db, index.id, error).await?;
    Ok((copies, attachments))
}

/// What an index has at its provider when its build ends early, as the rest of a sentence; empty if nothing.
pub async fn what_stays(db: &mut MySqlConnection, index: &Index) -> Result<String, DbError> {
    let files = attachments::count_states(db, index.id).await?;
    let copies = uploads::count_of_index(db, index.id, &index.provider_type).await?;
    let mut parts = Vec::new();
    if let Some(store) = &index.external_id {
        parts.push(format!("vector store {store}"));
    }
    if copies > 0 {
        parts.push(format!("copies of {copies} files"));
    }
    if files.total() > 0 {
        parts.push(format!(
            "{} files attached ({} indexed, {} being indexed)",
            files.total(),
            files.completed,
            files.in_progress
        ));
    }
    Ok(if parts.is_empty() {
        String::new()
    } else {
        format!("; at the provider stay: {}", parts.join(", "))
    })
}

/// Forgets builds that have been over for so long, but for each index's latest.
pub async fn prune(db: &mut MySqlConnection, older_than_seconds: u64, limit: u32) -> Result<u64, DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_index_builds WHERE job_id IN (SELECT job_id FROM ( \
             SELECT old.job_id FROM rag_index_builds AS old \
             WHERE old.finished_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND AND EXISTS ( \
                 SELECT 1 FROM rag_index_builds AS newer \
                 WHERE newer.index_id = old.index_id AND newer.started_at > old.started_at) \
             ORDER BY old.finished_at LIMIT ?) AS gone)",
    )
    .bind(older_than_seconds)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Forgets a build that is over, because its job is to run again: it begins anew then.
pub async fn forget(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_index_builds WHERE job_id = ? AND finished_at IS NOT NULL")
        .bind(job_id)
        .execute(db)
        .await?;
    Ok(())
}

/// Unfinished builds without a change for a while: their jobs may have ended without them. By job id, those behind `after`,
/// because most of them only wait and must not hide the others.
pub async fn list_stale(
    db: &mut MySqlConnection,
    after: &str,
    older_than_seconds: u32,
    limit: u32,
) -> Result<Vec<Build>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_index_builds WHERE job_id > ? AND finished_at IS NULL \
         AND updated_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND ORDER BY job_id LIMIT ?"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(after)
        .bind(older_than_seconds)
        .bind(limit)
        .fetch_all(db)
        .await?)
}
