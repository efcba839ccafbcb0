//! `rag_files`: documents, whose bytes are kept by `rag-files`.
//!
//! A row with `deleted_at` is hidden from every function here but those about tombstones.

use chrono::{DateTime, Utc};
use rag_domain::{ChunkingStrategy, DomainId, FileId, IndexId};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, exactly_one, newest_first, pieces, push_list};

/// A row of `rag_files`.
#[derive(Debug, Clone, FromRow)]
pub struct File {
    #[sqlx(try_from = "Text<FileId>")]
    pub id: FileId,
    #[sqlx(try_from = "Text<DomainId>")]
    pub domain_id: DomainId,
    pub file_name: String,
    /// MIME type.
    pub file_type: String,
    pub size_bytes: u64,
    /// 64 hex digits.
    pub sha256: String,
    /// Relative to FILES_ROOT.
    pub local_path: String,
    #[sqlx(json(nullable))]
    pub tags: Option<Vec<String>>,
    pub notes: Option<String>,
    #[sqlx(json(nullable))]
    pub chunking_strategy: Option<ChunkingStrategy>,
    /// Only of files that were imported from a provider.
    pub external_file_id: Option<String>,
    pub external_uploaded_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub(crate) const COLUMNS: &str = "id, domain_id, file_name, file_type, size_bytes, sha256, local_path, tags, notes, \
     chunking_strategy, external_file_id, external_uploaded_at, created_at, updated_at";

/// What is known of a file when its bytes are on disk.
#[derive(Debug, Clone)]
pub struct NewFile {
    pub id: FileId,
    pub domain_id: DomainId,
    pub file_name: String,
    pub file_type: String,
    pub size_bytes: u64,
    pub sha256: String,
    pub local_path: String,
    pub tags: Option<Vec<String>>,
    pub notes: Option<String>,
    pub chunking_strategy: Option<ChunkingStrategy>,
}

/// What a caller may change later; `None` leaves a field, `Some(None)` clears it.
#[derive(Debug, Clone, Default)]
pub struct FileChanges {
    pub file_name: Option<String>,
    pub tags: Option<Option<Vec<String>>>,
    pub notes: Option<Option<String>>,
    pub chunking_strategy: Option<Option<ChunkingStrategy>>,
}

/// New bytes for an existing file.
#[derive(Debug, Clone)]
pub struct NewContent {
    pub file_type: String,
    pub size_bytes: u64,
    pub sha256: String,
    pub local_path: String,
}

pub async fn insert(db: &mut MySqlConnection, file: &NewFile) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_files (id, domain_id, file_name, file_type, size_bytes, sha256, local_path, tags, notes, chunking_strategy) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(Text(file.id))
    .bind(file.domain_id.as_str())
    .bind(&file.file_name)
    .bind(&file.file_type)
    .bind(file.size_bytes)
    .bind(&file.sha256)
    .bind(&file.local_path)
    .bind(file.tags.as_ref().map(Json))
    .bind(&file.notes)
    .bind(file.chunking_strategy.map(Json))
    .execute(db)
    .await?;
    Ok(())
}

pub async fn find(db: &mut MySqlConnection, domain: &DomainId, id: FileId) -> Result<Option<File>, DbError> {
    select(db, domain, id, "").await
}

async fn select(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: FileId,
    lock: &'static str,
) -> Result<Option<File>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_files WHERE id = ? AND domain_id = ? AND deleted_at IS NULL {lock}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .bind(domain.as_str())
        .fetch_optional(db)
        .await?)
}

pub async fn get(db: &mut MySqlConnection, domain: &DomainId, id: FileId) -> Result<File, DbError> {
    find(db, domain, id).await?.ok_or(DbError::NotFound("file"))
}

/// As [`get`], and locks the row until the transaction ends.
pub async fn lock(db: &mut MySqlConnection, domain: &DomainId, id: FileId) -> Result<File, DbError> {
    let row = select(db, domain, id, "FOR UPDATE").await?;
    row.ok_or(DbError::NotFound("file"))
}

/// Locks those of these files that there are, and answers their ids; `ids` in ascending order, as everybody locks them.
pub async fn lock_many(
    db: &mut MySqlConnection,
    domain: &DomainId,
    ids: &[FileId],
) -> Result<Vec<FileId>, DbError> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in pieces(ids) {
        let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT id FROM rag_files WHERE domain_id = ");
        query.push_bind(domain.as_str()).push(" AND id IN ");
        push_list(&mut query, ids.iter().copied().map(Text));
        query.push(" ORDER BY id FOR UPDATE");
        let rows: Vec<Text<FileId>> = query.build_query_scalar().fetch_all(&mut *db).await?;
        found.extend(rows.into_iter().map(|id| id.0));
    }
    Ok(found)
}

/// As [`lock`], for admins, who belong to no domain.
pub async fn lock_of_any_domain(db: &mut MySqlConnection, id: FileId) -> Result<File, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_files WHERE id = ? AND deleted_at IS NULL FOR UPDATE");
    let row = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .fetch_optional(db)
        .await?;
    row.ok_or(DbError::NotFound("file"))
}

/// Which files to list; nothing set: all.
#[derive(Debug, Clone, Default)]
pub struct FileFilter {
    /// Part of the name, in whatever case.
    pub name: Option<String>,
    /// One of the tags, as it is.
    pub tag: Option<String>,
    /// Of the contents, 64 hex digits.
    pub sha256: Option<String>,
}

/// Newest first; `before` is the (created_at, id) of the last row of the page before.
pub async fn list(
    db: &mut MySqlConnection,
    domain: &DomainId,
    filter: &FileFilter,
    before: Option<(DateTime<Utc>, FileId)>,
    limit: u32,
) -> Result<Vec<File>, DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_files WHERE deleted_at IS NULL AND domain_id = ");
    query.push_bind(domain.as_str().to_owned());
    if let Some(name) = &filter.name {
        query
            .push(" AND INSTR(LOWER(file_name), LOWER(")
            .push_bind(name)
            .push(")) > 0");
    }
    if let Some(tag) = &filter.tag {
        query
            .push(" AND JSON_CONTAINS(tags, ")
            .push_bind(Json(tag))
            .push(")");
    }
    if let Some(sha256) = &filter.sha256 {
        query.push(" AND sha256 = ").push_bind(sha256);
    }
    newest_first(&mut query, before, limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

pub async fn update(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: FileId,
    changes: &FileChanges,
) -> Result<(), DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("UPDATE rag_files SET id = id");
    if let Some(file_name) = &changes.file_name {
        query.push(", file_name = ").push_bind(file_name);
    }
    if let Some(tags) = &changes.tags {
        query.push(", tags = ").push_bind(tags.as_ref().map(Json));
    }
    if let Some(notes) = &changes.notes {
        query.push(", notes = ").push_bind(notes);
    }
    if let Some(strategy) = changes.chunking_strategy {
        query.push(", chunking_strategy = ").push_bind(strategy.map(Json));
    }
    query.push(" WHERE id = ").push_bind(Text(id));
    query
        .push(" AND domain_id = ")
        .push_bind(domain.as_str().to_owned())
        .push(" AND deleted_at IS NULL");
    query.build().execute(&mut *db).await?;
    if changes.chunking_strategy.is_some() || changes.file_name.is_some() {
        note_change(db, id).await?;
    }
    Ok(())
}

/// Something that builds depend on has changed: the file's contents, name or strategy, or a copy that a caller edited.
///
/// Nothing else is locked behind this in a transaction: many files share such a note.
pub async fn note_change(db: &mut MySqlConnection, id: FileId) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_file_revisions SET revision = revision + 1 \
         WHERE slot = (SELECT CRC32(domain_id) % 256 FROM rag_files WHERE id = ?)",
    )
    .bind(Text(id))
    .execute(db)
    .await?;
    Ok(())
}

/// Points the file at new bytes; nothing else is locked behind this in a transaction. The old bytes stay on disk until the
/// caller removes them after its commit.
pub async fn replace_content(
    db: &mut MySqlConnection,
    domain: &DomainId,
    id: FileId,
    content: &NewContent,
) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_files SET file_type = ?, size_bytes = ?, sha256 = ?, local_path = ?, updated_at = UTC_TIMESTAMP(6) \
         WHERE id = ? AND domain_id = ? AND deleted_at IS NULL",
    )
    .bind(&content.file_type)
    .bind(content.size_bytes)
    .bind(&content.sha256)
    .bind(&content.local_path)
    .bind(Text(id))
    .bind(domain.as_str())
    .execute(&mut *db)
    .await?;
    exactly_one(&result, "file", id)?;
    note_change(db, id).await
}

/// Deletion was asked for: from now on the file is hidden.
pub async fn mark_deleted(db: &mut MySqlConnection, domain: &DomainId, id: FileId) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_files SET deleted_at = UTC_TIMESTAMP(6) WHERE id = ? AND domain_id = ? AND deleted_at IS NULL",
    )
    .bind(Text(id))
    .bind(domain.as_str())
    .execute(db)
    .await?;
    exactly_one(&result, "file", id)
}

/// The file, if its deletion was asked for and is not done; locked until the transaction ends.
pub async fn find_tombstone_for_update(
    db: &mut MySqlConnection,
    id: FileId,
) -> Result<Option<File>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_files WHERE id = ? AND deleted_at IS NOT NULL FOR UPDATE");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(id))
        .fetch_optional(db)
        .await?)
}

/// A file whose deletion was asked for: hidden from everybody but who carries the deletion out.
#[derive(Debug, Clone, FromRow)]
pub struct Tombstone {
    #[sqlx(flatten)]
    pub file: File,
    pub deleted_at: DateTime<Utc>,
}

/// The files whose deletion is not done, the longest deleted first; `after` is the (deleted_at, id) of the last row of the
/// page before.
pub async fn list_tombstones(
    db: &mut MySqlConnection,
    after: Option<(DateTime<Utc>, FileId)>,
    limit: u32,
) -> Result<Vec<Tombstone>, DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(", deleted_at FROM rag_files WHERE deleted_at IS NOT NULL");
    if let Some((deleted_at, id)) = after {
        query.push(" AND (deleted_at, id) > (").push_bind(deleted_at);
        query.push(", ").push_bind(Text(id)).push(")");
    }
    query.push(" ORDER BY deleted_at, id LIMIT ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Removes the row of a file whose deletion is given up, and the rows of copies of which no provider has confirmed that they
/// are gone. What providers have stays there.
pub async fn delete_tombstone(db: &mut MySqlConnection, id: FileId) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_provider_file_uploads WHERE local_file_id = ? AND deleted_at IS NULL")
        .bind(Text(id))
        .execute(&mut *db)
        .await?;
    let result = sqlx::query("DELETE FROM rag_files WHERE id = ? AND deleted_at IS NOT NULL")
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "file", id)
}

/// Locks these files' rows, deleted ones included, against links, uploads and deletions; in the order of their ids, as
/// everybody does who locks several. Answers which of them there are.
pub async fn lock_all(db: &mut MySqlConnection, ids: &[FileId]) -> Result<Vec<FileId>, DbError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT id FROM rag_files WHERE id IN ");
    push_list(&mut query, ids.iter().copied().map(Text));
    query.push(" ORDER BY id FOR UPDATE");
    let rows: Vec<Text<FileId>> = query.build_query_scalar().fetch_all(db).await?;
    Ok(rows.into_iter().map(|id| id.0).collect())
}

/// Locks the file's row, hidden or not: to declare an upload of it, to adopt one or to delete it takes this lock.
pub async fn lock_any(db: &mut MySqlConnection, id: FileId) -> Result<bool, DbError> {
    Ok(!lock_all(db, &[id]).await?.is_empty())
}

/// Removes the row. The caller has made sure that no index and no provider copy needs it.
pub async fn delete(db: &mut MySqlConnection, domain: &DomainId, id: FileId) -> Result<(), DbError> {
    let result = sqlx::query("DELETE FROM rag_files WHERE id = ? AND domain_id = ?")
        .bind(Text(id))
        .bind(domain.as_str())
        .execute(db)
        .await?;
    exactly_one(&result, "file", id)
}

/// The files of an index in its order. Files of another domain never appear.
pub async fn list_of_index(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
) -> Result<Vec<File>, DbError> {
    let columns = COLUMNS
        .split(", ")
        .map(|column| format!("f.{column}"))
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!(
        "SELECT {columns} FROM rag_index_files l JOIN rag_files f ON f.id = l.file_id \
         WHERE l.index_id = ? AND f.domain_id = ? AND f.deleted_at IS NULL ORDER BY l.include_order, l.file_id"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(Text(index))
        .bind(domain.as_str())
        .fetch_all(db)
        .await?)
}
