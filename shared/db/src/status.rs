//! Where an index stands, in one statement: callers ask for it all the time.
//!
//! Its job is found by the queue's own key, which the caller names: nothing here knows how such keys are made.

use chrono::{DateTime, Utc};
use rag_domain::{
    AttachmentId, AttachmentState, ChunkingStrategy, DesiredFile, DomainId, FileId, IndexId, IndexingStatus,
    PresentFile, UploadStatus, UploadedFile,
};
use sqlx::mysql::MySqlRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use crate::DbError;
use crate::sql::Text;

/// An index with what its counts follow from.
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
    pub desired: Vec<DesiredFile>,
    /// Only what hangs in the store for one of the files: nothing of files that have left the index.
    pub present: Vec<PresentFile>,
}

/// Names of columns are short because there is one row per file.
const QUERY: &str = "SELECT i.indexing_status, i.external_id, i.indexed_at, i.last_error, \
       GREATEST(COALESCE(i.provider_seen_at, k.looked_at), COALESCE(k.looked_at, i.provider_seen_at)) AS seen_at, \
       (SELECT b.job_id FROM rag_index_builds b WHERE b.index_id = i.id ORDER BY b.started_at DESC LIMIT 1) AS last_job_id, \
       (SELECT q.job_id FROM queue_unique_keys q WHERE q.kind = ? AND q.unique_key = ?) AS active_job, \
       f.id AS f_id, f.sha256 AS f_sha256, f.size_bytes AS f_size, \
       COALESCE(l.chunking_strategy, f.chunking_strategy, i.chunking_strategy) AS f_strategy, \
       u.status AS u_status, u.content_sha256 AS u_sha256, COALESCE(u.files_api_id, u.external_file_id) AS u_external, \
       a.id AS a_id, a.external_file_id AS a_external, a.content_sha256 AS a_sha256, a.chunking_strategy AS a_strategy, \
       a.state AS a_state \
     FROM rag_indexes i \
     LEFT JOIN rag_index_looks k ON k.index_id = i.id \
     LEFT JOIN (rag_index_files l JOIN rag_files f ON f.id = l.file_id) ON l.index_id = i.id AND f.domain_id = i.domain_id \
     LEFT JOIN rag_provider_file_uploads u ON u.provider_id = i.provider_type AND u.local_file_id = f.id \
     LEFT JOIN rag_index_attachments a ON a.index_id = i.id AND a.local_file_id = f.id \
     WHERE i.id = ? AND i.domain_id = ? AND i.deleted_at IS NULL \
     ORDER BY l.include_order, l.file_id";

/// The index as it stands; `kind` and `unique_key` are those that its active job would have.
pub async fn find(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
    kind: &str,
    unique_key: &str,
) -> Result<Option<Standing>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(QUERY))
        .bind(kind)
        .bind(unique_key)
        .bind(Text(index))
        .bind(domain.as_str())
        .fetch_all(db)
        .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut standing = Standing {
        indexing_status: first.try_get::<Text<IndexingStatus>, _>("indexing_status")?.0,
        external_id: first.try_get("external_id")?,
        indexed_at: first.try_get("indexed_at")?,
        last_error: first.try_get("last_error")?,
        provider_seen_at: first.try_get("seen_at")?,
        last_job_id: first.try_get("last_job_id")?,
        active_job: first.try_get("active_job")?,
        desired: Vec::with_capacity(rows.len()),
        present: Vec::with_capacity(rows.len()),
    };
    for row in &rows {
        let Some(Text(file_id)) = row.try_get::<Option<Text<FileId>>, _>("f_id")? else {
            continue;
        };
        // Two versions of a file in the store are two rows of the same file, one after the other.
        if standing.desired.last().is_none_or(|last| last.file_id != file_id) {
            standing.desired.push(desired(row, file_id)?);
        }
        standing.present.extend(present(row, file_id)?);
    }
    Ok(Some(standing))
}

fn strategy(row: &MySqlRow, column: &str) -> Result<Option<ChunkingStrategy>, DbError> {
    Ok(row
        .try_get::<Option<Json<ChunkingStrategy>>, _>(column)?
        .map(|json| json.0))
}

fn desired(row: &MySqlRow, file_id: FileId) -> Result<DesiredFile, DbError> {
    let status: Option<Text<UploadStatus>> = row.try_get("u_status")?;
    let upload = status
        .map(|status| {
            Ok::<_, DbError>(UploadedFile {
                status: status.0,
                content_sha256: row.try_get("u_sha256")?,
                external_file_id: row.try_get("u_external")?,
            })
        })
        .transpose()?;
    Ok(DesiredFile {
        file_id,
        content_sha256: row.try_get("f_sha256")?,
        size_bytes: row.try_get("f_size")?,
        strategy: strategy(row, "f_strategy")?,
        upload,
    })
}

fn present(row: &MySqlRow, file_id: FileId) -> Result<Option<PresentFile>, DbError> {
    let Some(Text(attachment_id)) = row.try_get::<Option<Text<AttachmentId>>, _>("a_id")? else {
        return Ok(None);
    };
    Ok(Some(PresentFile {
        attachment_id,
        file_id,
        external_file_id: row.try_get("a_external")?,
        content_sha256: row.try_get("a_sha256")?,
        strategy: strategy(row, "a_strategy")?,
        state: row.try_get::<Text<AttachmentState>, _>("a_state")?.0,
    }))
}
