//! The state of indexes, many of them in one statement, because callers ask for it all the time.
//!
//! Counting takes time in proportion to the files; the rest little more than any select by primary key. So the state can be
//! read without the counts, and a cache of counts can tell by the [`IndexState`] read with them when they are out of date.
//!
//! The caller names the unique keys of their jobs. The queue says how to find a job by its key (`key_holder`).

use std::collections::HashMap;

use apalis_mariadb::key_holder;
use chrono::{DateTime, Utc};
use rag_domain::{DesiredFile, DomainId, IndexId, IndexingStatus, PresentFile};
use sqlx::mysql::MySqlRow;
use sqlx::{MySql, MySqlConnection, QueryBuilder, Row as _};

use crate::sql::{Text, push_list};
use crate::{DbError, attachments, composition};

/// An index without its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexState {
    pub indexing_status: IndexingStatus,
    pub external_id: Option<String>,
    /// Since when the provider has not been seen to have the store.
    pub store_missed_at: Option<DateTime<Utc>>,
    pub indexed_at: Option<DateTime<Utc>>,
    /// Of its builds, else of its last sync, else of its last search.
    pub last_error: Option<String>,
    /// When the store was first seen expired.
    pub store_expired_at: Option<DateTime<Utc>>,
    /// When the provider last told how its files fare: to a build, or to a sync.
    pub provider_seen_at: Option<DateTime<Utc>>,
    pub last_job_id: Option<String>,
    pub active_job: Option<ActiveJob>,
    /// Grows with each change to the index's links and to its own chunking strategy.
    composition_revision: u64,
    /// Grows with each change to contents, strategies and copies of the domain's files, and sometimes to those of others.
    files_revision: u64,
}

/// The job that builds the index, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveJob {
    /// 16 bytes.
    pub id: Vec<u8>,
    /// Another one whenever the job's row is, or the progress of its build.
    pub revision: String,
}

impl IndexState {
    /// Whether the index had the same files then, as far as callers are concerned; only workers may have got on with them. A
    /// build that begins or ends, and a sync, make a difference.
    pub fn same_revision_as(&self, then: &Self) -> bool {
        let job = |state: &Self| state.active_job.as_ref().map(|job| job.id.clone());
        let but_for_the_job = |state: &Self| Self {
            active_job: None,
            ..state.clone()
        };
        job(self) == job(then) && but_for_the_job(self) == but_for_the_job(then)
    }
}

/// An index with its files.
#[derive(Debug, Clone)]
pub struct Counted {
    pub state: IndexState,
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

/// How to recognise the jobs of indexes: they are of this kind, and their unique keys are this prefix with an index's id.
#[derive(Debug, Clone, Copy)]
pub struct JobsOfIndexes<'a> {
    pub kind: &'a str,
    pub unique_key_prefix: &'a str,
}

/// What was found of each index that there is. One whose row can't be read has an error of its own.
pub type FoundMany<T> = HashMap<(DomainId, IndexId), Result<T, DbError>>;

/// The columns of an [`IndexState`], but for its job.
const STATE: &str = "i.id, i.domain_id, i.indexing_status, i.external_id, i.store_missed_at, i.indexed_at, \
       COALESCE(i.last_error, i.sync_error, i.query_error) AS last_error, \
       i.store_expired_at, i.provider_seen_at, i.last_job_id, i.composition_revision, r.revision AS files_revision";

/// Its rows, but for its job. The active build is the one that began last, if it has begun.
const ROWS: &str = " FROM rag_indexes i \
     JOIN rag_file_revisions r ON r.slot = CRC32(i.domain_id) % 256 \
     LEFT JOIN rag_index_builds b ON b.job_id = i.last_job_id ";

/// The columns of [`Counts`]: one row for each index, whatever the number of its files, because transferring and sorting ten
/// rows takes longer than everything else here.
///
/// `unsure` counts what only code can judge: whether two strategies that are not the same text are the same, and what is
/// attached to another store than the index's own. A copy is attached to a store once, so no file is counted twice.
const COUNTS: &str = ", \
       COUNT(l.file_id) AS total, \
       COUNT(CASE WHEN u.status = 'failed' THEN 1 END) AS upload_failed, \
       COUNT(CASE WHEN a.state = 'completed' THEN 1 END) AS completed, \
       COUNT(CASE WHEN a.state = 'failed' THEN 1 END) AS failed, \
       COUNT(CASE WHEN a.state = 'cancelled' THEN 1 END) AS cancelled, \
       COUNT(a.id) AS there, \
       COUNT(CASE WHEN a.id IS NOT NULL AND NOT (a.external_store_id <=> i.external_id AND a.chunking_strategy <=> \
         COALESCE(l.chunking_strategy, f.chunking_strategy, i.chunking_strategy)) THEN 1 END) AS unsure";

/// The rows that are counted.
const FILES: &str = " \
     LEFT JOIN (rag_index_files l JOIN rag_files f ON f.id = l.file_id) \
       ON l.index_id = i.id AND f.domain_id = i.domain_id \
     LEFT JOIN rag_provider_file_uploads u ON u.provider_id = i.provider_type AND u.local_file_id = f.id \
       AND u.content_sha256 = f.sha256 AND COALESCE(u.file_name = f.file_name, TRUE) \
     LEFT JOIN rag_index_attachments a ON a.index_id = i.id AND a.local_file_id = f.id AND a.content_sha256 = f.sha256 \
       AND u.status = 'uploaded' AND a.external_file_id = COALESCE(u.files_api_id, u.external_file_id) \
       AND a.state <> 'detaching'";

/// Those of the indexes that there are, as they stand, without their files.
pub async fn find_many(
    db: &mut MySqlConnection,
    indexes: &[(DomainId, IndexId)],
    jobs: JobsOfIndexes<'_>,
) -> Result<FoundMany<IndexState>, DbError> {
    let query = select("", "", indexes, jobs);
    find(db, query, indexes, state).await
}

/// Those of the indexes that there are, as they stand, with their files as they are at the same moment.
pub async fn count_many(
    db: &mut MySqlConnection,
    indexes: &[(DomainId, IndexId)],
    jobs: JobsOfIndexes<'_>,
) -> Result<FoundMany<Counted>, DbError> {
    let mut query = select(COUNTS, FILES, indexes, jobs);
    query.push(" GROUP BY i.id");
    find(db, query, indexes, counted).await
}

/// Standings, with further columns of further rows.
fn select(
    columns: &str,
    rows: &str,
    indexes: &[(DomainId, IndexId)],
    jobs: JobsOfIndexes<'_>,
) -> QueryBuilder<MySql> {
    let [kind, key, end] = key_holder::JOIN;
    let (job, version) = (key_holder::JOB_ID, key_holder::VERSION);
    let mut query = QueryBuilder::new(format!(
        "SELECT {STATE}, {job} AS active_job, CONCAT_WS(' ', {version}, b.updated_at) AS job_revision"
    ));
    query.push(columns).push(ROWS);
    query.push(kind).push_bind(jobs.kind).push(key);
    query
        .push("CONCAT(")
        .push_bind(jobs.unique_key_prefix)
        .push(", i.id)");
    query.push(end).push(rows);
    query.push(" WHERE i.deleted_at IS NULL AND i.id IN ");
    push_list(&mut query, indexes.iter().map(|(_, index)| Text(*index)));
    query
}

async fn find<T>(
    db: &mut MySqlConnection,
    mut query: QueryBuilder<MySql>,
    indexes: &[(DomainId, IndexId)],
    read: impl Fn(&MySqlRow) -> Result<T, DbError>,
) -> Result<FoundMany<T>, DbError> {
    let mut found = HashMap::new();
    if indexes.is_empty() {
        return Ok(found);
    }
    for row in query.build().fetch_all(db).await? {
        let Text(id) = row.try_get::<Text<IndexId>, _>("id")?;
        let domain: String = row.try_get("domain_id")?;
        let is_asked = |(asked, index): &&(DomainId, IndexId)| *index == id && asked.as_str() == domain;
        // Who asked for an index of another domain gets nothing.
        if let Some(key) = indexes.iter().find(is_asked) {
            found.insert(key.clone(), read(&row));
        }
    }
    Ok(found)
}

fn state(row: &MySqlRow) -> Result<IndexState, DbError> {
    let active_job: Option<Vec<u8>> = row.try_get("active_job")?;
    let revision = row.try_get("job_revision")?;
    Ok(IndexState {
        indexing_status: row.try_get::<Text<IndexingStatus>, _>("indexing_status")?.0,
        external_id: row.try_get("external_id")?,
        store_missed_at: row.try_get("store_missed_at")?,
        indexed_at: row.try_get("indexed_at")?,
        last_error: row.try_get("last_error")?,
        store_expired_at: row.try_get("store_expired_at")?,
        provider_seen_at: row.try_get("provider_seen_at")?,
        last_job_id: row.try_get("last_job_id")?,
        active_job: active_job.map(|id| ActiveJob { id, revision }),
        composition_revision: row.try_get("composition_revision")?,
        files_revision: row.try_get("files_revision")?,
    })
}

fn counted(row: &MySqlRow) -> Result<Counted, DbError> {
    let count = |column| Ok::<_, DbError>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
    let (total, there) = (count("total")?, count("there")?);
    let (completed, failed, cancelled) = (count("completed")?, count("failed")?, count("cancelled")?);
    let upload_failed = count("upload_failed")?;
    let is_certain = count("unsure")? == 0;
    Ok(Counted {
        state: state(row)?,
        counts: is_certain.then(|| Counts {
            pending: total.saturating_sub(there + upload_failed),
            in_progress: there.saturating_sub(completed + failed + cancelled),
            completed,
            failed: failed + upload_failed,
            cancelled,
        }),
    })
}

/// The rows that the counts follow from: the files of the index, and their attachments.
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
