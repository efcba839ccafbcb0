//! Where an index stands, in one statement: callers ask for it all the time.
//!
//! Its job is found by the queue's own key, which the caller names: nothing here knows how such keys are made.

use chrono::{DateTime, Utc};
use rag_domain::{DesiredFile, DomainId, IndexId, IndexingStatus, PresentFile};
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use crate::sql::Text;
use crate::{DbError, attachments, composition};

/// An index without its files.
#[derive(Debug, Clone)]
pub struct Standing {
    pub indexing_status: IndexingStatus,
    pub external_id: Option<String>,
    pub indexed_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    /// When the provider last told how its files fare: to a build, or to a sync.
    pub provider_seen_at: Option<DateTime<Utc>>,
    pub last_job_id: Option<String>,
    /// Of the active job with the key that was asked about: its id as 16 bytes.
    pub active_job: Option<Vec<u8>>,
    /// `None`: SQL alone can't tell, see [`files`].
    pub counts: Option<Counts>,
}

/// The files of an index by their state; as the plan of a build counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not at the provider as wanted; a build has to take them there.
    pub pending: u64,
    pub in_progress: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
}

/// Files of an index with their copies (`u`), in which a file's present contents are there or have failed.
const FILES: &str = "(rag_index_files l JOIN rag_files f ON f.id = l.file_id) ON l.index_id = i.id AND f.domain_id = i.domain_id \
     LEFT JOIN rag_provider_file_uploads u ON u.provider_id = i.provider_type AND u.local_file_id = f.id \
       AND u.content_sha256 = f.sha256";

/// One row, whatever the number of files: transferring and sorting ten rows takes longer than everything else here.
///
/// `unsure` counts what only code can judge: whether two strategies that are not the same text are the same.
fn counting() -> String {
    format!(
        "SELECT i.indexing_status, i.external_id, i.indexed_at, i.last_error, \
           GREATEST(COALESCE(i.provider_seen_at, k.looked_at), COALESCE(k.looked_at, i.provider_seen_at)) AS seen_at, \
           (SELECT b.job_id FROM rag_index_builds b WHERE b.index_id = i.id ORDER BY b.started_at DESC LIMIT 1) AS last_job_id, \
           (SELECT q.job_id FROM queue_unique_keys q WHERE q.kind = ? AND q.unique_key = ?) AS active_job, \
           COUNT(l.file_id) AS total, \
           COUNT(CASE WHEN u.status = 'failed' THEN 1 END) AS upload_failed, \
           COUNT(CASE WHEN a.state = 'completed' THEN 1 END) AS completed, \
           COUNT(CASE WHEN a.state = 'failed' THEN 1 END) AS failed, \
           COUNT(CASE WHEN a.state = 'cancelled' THEN 1 END) AS cancelled, \
           COUNT(a.id) AS there, \
           COUNT(CASE WHEN a.id IS NOT NULL AND NOT a.chunking_strategy <=> \
             COALESCE(l.chunking_strategy, f.chunking_strategy, i.chunking_strategy) THEN 1 END) AS unsure, \
           MIN(a.external_store_id) <=> MAX(a.external_store_id) AS one_store \
         FROM rag_indexes i \
         LEFT JOIN rag_index_looks k ON k.index_id = i.id \
         LEFT JOIN {FILES} \
         LEFT JOIN rag_index_attachments a ON a.index_id = i.id AND a.local_file_id = f.id AND a.content_sha256 = f.sha256 \
           AND u.status = 'uploaded' AND a.external_file_id = COALESCE(u.files_api_id, u.external_file_id) \
           AND a.state <> 'detaching' \
         WHERE i.id = ? AND i.domain_id = ? AND i.deleted_at IS NULL \
         GROUP BY i.id"
    )
}

/// The index as it stands; `kind` and `unique_key` are those that its active job would have.
pub async fn find(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
    kind: &str,
    unique_key: &str,
) -> Result<Option<Standing>, DbError> {
    let row = sqlx::query(AssertSqlSafe(counting()))
        .bind(kind)
        .bind(unique_key)
        .bind(Text(index))
        .bind(domain.as_str())
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let count = |column| Ok::<_, DbError>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
    let (total, there) = (count("total")?, count("there")?);
    let (completed, failed, cancelled) = (count("completed")?, count("failed")?, count("cancelled")?);
    let upload_failed = count("upload_failed")?;
    // With one store a file's copy hangs there once, so no file is counted twice.
    let is_certain = count("unsure")? == 0 && row.try_get::<i64, _>("one_store")? != 0;
    Ok(Some(Standing {
        indexing_status: row.try_get::<Text<IndexingStatus>, _>("indexing_status")?.0,
        external_id: row.try_get("external_id")?,
        indexed_at: row.try_get("indexed_at")?,
        last_error: row.try_get("last_error")?,
        provider_seen_at: row.try_get("seen_at")?,
        last_job_id: row.try_get("last_job_id")?,
        active_job: row.try_get("active_job")?,
        counts: is_certain.then(|| Counts {
            pending: total.saturating_sub(there + upload_failed),
            in_progress: there.saturating_sub(completed + failed + cancelled),
            completed,
            failed: failed + upload_failed,
            cancelled,
        }),
    }))
}

/// What the counts follow from: the files of the index, and what hangs in the store for them.
pub async fn files(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
) -> Result<(Vec<DesiredFile>, Vec<PresentFile>), DbError> {
    let desired = composition::list(db, domain, index).await?;
    let present = attachments::list(db, index).await?;
    let desired = desired.into_iter().map(|member| member.desired);
    Ok((desired.collect(), present.iter().map(PresentFile::from).collect()))
}
