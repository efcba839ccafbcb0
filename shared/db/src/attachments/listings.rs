//! Attachments of an index by page: by file, by state, and by what the provider calls them.

use chrono::{DateTime, Utc};
use rag_domain::{AttachmentId, AttachmentState, DomainId, FileId, IndexId};
use sqlx::{AssertSqlSafe, Encode, MySql, MySqlConnection, QueryBuilder, Type};

use super::{Attachment, COLUMNS};
use crate::DbError;
use crate::sql::{Text, one_of, push_list};

/// The attachments of these files, of whatever version.
pub async fn list_of_files(
    db: &mut MySqlConnection,
    index: IndexId,
    files: &[FileId],
) -> Result<Vec<Attachment>, DbError> {
    list_where(db, index, "local_file_id", files.iter().copied().map(Text)).await
}

/// Those of these attachments that there are.
pub async fn list_some(
    db: &mut MySqlConnection,
    index: IndexId,
    ids: &[AttachmentId],
) -> Result<Vec<Attachment>, DbError> {
    list_where(db, index, "id", ids.iter().copied().map(Text)).await
}

/// All attachments of an index, by id, behind `after`.
pub async fn list_page(
    db: &mut MySqlConnection,
    index: IndexId,
    after: Option<AttachmentId>,
    limit: u32,
) -> Result<Vec<Attachment>, DbError> {
    page(db, select(index), after, limit).await
}

/// Attachments of files that no longer belong in the index, by id, behind `after`.
pub async fn list_unlinked(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
    after: Option<AttachmentId>,
    limit: u32,
) -> Result<Vec<Attachment>, DbError> {
    let mut query = select(index);
    query
        .push(
            " AND NOT EXISTS (SELECT 1 FROM rag_index_files l JOIN rag_files f ON f.id = l.file_id AND f.deleted_at IS NULL \
             WHERE l.index_id = rag_index_attachments.index_id AND l.file_id = rag_index_attachments.local_file_id \
             AND f.domain_id = ",
        )
        .push_bind(domain.as_str())
        .push(")");
    page(db, query, after, limit).await
}

/// At most `limit` attachments in this state, the oldest first.
pub async fn list_in_state(
    db: &mut MySqlConnection,
    index: IndexId,
    state: AttachmentState,
    limit: u32,
) -> Result<Vec<Attachment>, DbError> {
    let mut query = select(index);
    query
        .push(" AND state = ")
        .push_bind(Text(state))
        .push(" ORDER BY created_at, id LIMIT ")
        .push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Attachments whose end a build waits for, by id, behind `after`.
pub async fn list_waiting(
    db: &mut MySqlConnection,
    index: IndexId,
    after: Option<AttachmentId>,
    limit: u32,
) -> Result<Vec<Attachment>, DbError> {
    let mut query = select(index);
    query
        .push(" AND ")
        .push(one_of("state", AttachmentState::INDEXING));
    page(db, query, after, limit).await
}

/// The attachments that the provider calls so, in its Files API or in the store.
pub async fn list_by_external_ids(
    db: &mut MySqlConnection,
    index: IndexId,
    store: &str,
    ids: &[&str],
) -> Result<Vec<Attachment>, DbError> {
    let mut found = list_where(db, index, "external_file_id", ids.iter().copied()).await?;
    if found.len() < ids.len() {
        found.extend(list_where(db, index, "external_store_file_id", ids.iter().copied()).await?);
    }
    found.retain(|row| row.external_store_id == store);
    found.sort_by_key(|row| row.id);
    found.dedup_by_key(|row| row.id);
    Ok(found)
}

async fn list_where<'q, T>(
    db: &mut MySqlConnection,
    index: IndexId,
    column: &'static str,
    values: impl ExactSizeIterator<Item = T>,
) -> Result<Vec<Attachment>, DbError>
where
    T: Clone + Encode<'q, MySql> + Type<MySql>,
{
    if values.len() == 0 {
        return Ok(Vec::new());
    }
    let mut query = select(index);
    query.push(" AND ").push(column).push(" IN ");
    push_list(&mut query, values);
    query.push(" ORDER BY created_at, id");
    Ok(query.build_query_as().fetch_all(db).await?)
}

async fn page(
    db: &mut MySqlConnection,
    mut query: QueryBuilder<MySql>,
    after: Option<AttachmentId>,
    limit: u32,
) -> Result<Vec<Attachment>, DbError> {
    if let Some(after) = after {
        query.push(" AND id > ").push_bind(Text(after));
    }
    query.push(" ORDER BY id LIMIT ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

fn select(index: IndexId) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_index_attachments WHERE index_id = ")
        .push_bind(Text(index));
    query
}

/// How many attachments of an index are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub pending: u64,
    pub attaching: u64,
    pub in_progress: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub detaching: u64,
    /// Those of them that a complete listing lacked.
    pub missed: u64,
    /// What the provider reports of the bytes that they use there.
    pub usage_bytes: u64,
}

impl Counts {
    /// Attachments whose end a build waits for.
    pub const fn waiting(&self) -> u64 {
        self.attaching + self.in_progress
    }

    /// Attachments in whatever state.
    pub const fn total(&self) -> u64 {
        self.pending + self.waiting() + self.completed + self.failed + self.cancelled + self.detaching
    }
}

/// Counts the attachments of an index.
pub async fn count(db: &mut MySqlConnection, index: IndexId) -> Result<Counts, DbError> {
    let rows: Vec<(Text<AttachmentState>, i64, i64, u64)> = sqlx::query_as(
        "SELECT state, COUNT(*), COUNT(missed_at), CAST(COALESCE(SUM(usage_bytes), 0) AS UNSIGNED) FROM rag_index_attachments WHERE index_id = ? GROUP BY state",
    )
    .bind(Text(index))
    .fetch_all(db)
    .await?;
    let mut counts = Counts::default();
    for (Text(state), count, missed, usage_bytes) in rows {
        let count = count.unsigned_abs();
        counts.missed += missed.unsigned_abs();
        counts.usage_bytes += usage_bytes;
        match state {
            AttachmentState::Pending => counts.pending = count,
            AttachmentState::Attaching => counts.attaching = count,
            AttachmentState::InProgress => counts.in_progress = count,
            AttachmentState::Completed => counts.completed = count,
            AttachmentState::Failed => counts.failed = count,
            AttachmentState::Cancelled => counts.cancelled = count,
            AttachmentState::Detaching => counts.detaching = count,
        }
    }
    Ok(counts)
}

/// Since when the oldest attachments wait whose end a build waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct WaitingSince {
    /// Of all of them.
    pub any: Option<DateTime<Utc>>,
    /// Of those that the provider accepted.
    pub accepted: Option<DateTime<Utc>>,
}

/// Since when the attachments of an index wait, by the database's clock.
pub async fn find_waiting_since(db: &mut MySqlConnection, index: IndexId) -> Result<WaitingSince, DbError> {
    let sql = format!(
        "SELECT MIN(COALESCE(attached_at, created_at)) AS `any`, \
         MIN(IF(state = 'in_progress', COALESCE(attached_at, created_at), NULL)) AS accepted \
         FROM rag_index_attachments WHERE index_id = ? AND {}",
        one_of("state", AttachmentState::INDEXING)
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(index))
        .fetch_one(db)
        .await?)
}

/// The file batches that the attachments went in with whose end a build waits for; at most `limit`.
pub async fn list_waiting_batches(
    db: &mut MySqlConnection,
    index: IndexId,
    limit: u32,
) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT external_batch_id FROM rag_index_attachments \
         WHERE index_id = ? AND state = 'in_progress' AND external_batch_id IS NOT NULL LIMIT ?",
    )
    .bind(Text(index))
    .bind(limit)
    .fetch_all(db)
    .await?)
}
