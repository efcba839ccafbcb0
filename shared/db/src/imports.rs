//! What a sync asks and writes about files that a provider has: which of them we hold, under which of our ids, and the rows
//! of those that are taken over.
//!
//! Everything is asked for one domain: a file that another domain holds is unknown to this one.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use rag_domain::{ChunkingStrategy, DomainId, FileId, IndexId, UploadId, UploadStatus};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySql, MySqlConnection, QueryBuilder};

use crate::files::NewFile;
use crate::sql::{MOST_ROWS, Move, Text, exactly_one, make_move, pieces};
use crate::{DbError, index_files, uploads};

/// A file of ours that a provider's file is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub file_id: FileId,
    /// Of our bytes, by the row.
    pub sha256: String,
    /// Where they lie, relative to FILES_ROOT.
    pub local_path: String,
    pub size_bytes: u64,
    /// Of the copy's bytes, as far as rows tell.
    pub copy_sha256: String,
    /// The `external_file_id` of the file's row for this provider, if the row is about this very copy.
    pub upload: Option<String>,
    /// Which file in the Files API the copy's bytes were found equal to ours as, and their hash at the time.
    pub compared: Option<(String, String)>,
    /// The file's own wish.
    pub chunking_strategy: Option<ChunkingStrategy>,
    /// Its deletion was asked for.
    pub is_deleted: bool,
}

impl Known {
    /// A file that we do not have yet, for plans of what would be done with it.
    pub fn to_be() -> Self {
        Self {
            file_id: FileId::new(),
            sha256: String::new(),
            local_path: String::new(),
            size_bytes: 0,
            copy_sha256: String::new(),
            upload: None,
            compared: None,
            chunking_strategy: None,
            is_deleted: false,
        }
    }

    /// Whether the bytes of this file in the Files API were found equal to those that we hold now.
    pub fn was_found_equal(&self, files_api_id: &str) -> bool {
        self.compared
            .as_ref()
            .is_some_and(|(file, sha256)| file == files_api_id && *sha256 == self.sha256)
    }
}

#[derive(FromRow)]
struct Row {
    external_id: String,
    #[sqlx(try_from = "Text<FileId>")]
    file_id: FileId,
    sha256: String,
    local_path: String,
    size_bytes: u64,
    copy_sha256: String,
    upload: Option<String>,
    compared_file_id: Option<String>,
    compared_sha256: Option<String>,
    #[sqlx(json(nullable))]
    chunking_strategy: Option<ChunkingStrategy>,
    is_deleted: bool,
}

/// Which of these ids (of the Files API, or within a store) are copies of files that the domain holds.
///
/// The upload rows decide; a copy that they no longer name is known by its attachment, and a file that was
/// imported and has lost its row by the id that it came with.
pub async fn find_known(
    db: &mut MySqlConnection,
    provider: &str,
    domain: &DomainId,
    ids: &[&str],
) -> Result<HashMap<String, Known>, DbError> {
    // The later a source, the less it counts.
    let sources = [
        "SELECT u.external_file_id AS external_id, f.id AS file_id, f.sha256, f.local_path, f.size_bytes, f.chunking_strategy, f.deleted_at IS NOT NULL AS is_deleted, u.content_sha256 AS copy_sha256, \
             u.external_file_id AS upload, u.compared_file_id, u.compared_sha256 \
             FROM rag_provider_file_uploads u JOIN rag_files f ON f.id = u.local_file_id \
             WHERE u.status <> 'deleted' AND u.provider_id = ? AND f.domain_id = ? AND u.external_file_id IN ",
        "SELECT u.files_api_id AS external_id, f.id AS file_id, f.sha256, f.local_path, f.size_bytes, f.chunking_strategy, f.deleted_at IS NOT NULL AS is_deleted, u.content_sha256 AS copy_sha256, \
             u.external_file_id AS upload, u.compared_file_id, u.compared_sha256 \
             FROM rag_provider_file_uploads u JOIN rag_files f ON f.id = u.local_file_id \
             WHERE u.status <> 'deleted' AND u.provider_id = ? AND f.domain_id = ? AND u.files_api_id IN ",
        "SELECT a.external_file_id AS external_id, f.id AS file_id, f.sha256, f.local_path, f.size_bytes, f.chunking_strategy, f.deleted_at IS NOT NULL AS is_deleted, a.content_sha256 AS copy_sha256, \
             NULL AS upload, NULL AS compared_file_id, NULL AS compared_sha256 \
             FROM rag_index_attachments a JOIN rag_indexes i ON i.id = a.index_id JOIN rag_files f ON f.id = a.local_file_id \
             WHERE i.provider_type = ? AND f.domain_id = ? AND a.external_file_id IN ",
        "SELECT f.external_file_id AS external_id, f.id AS file_id, f.sha256, f.local_path, f.size_bytes, f.chunking_strategy, f.deleted_at IS NOT NULL AS is_deleted, f.sha256 AS copy_sha256, \
             NULL AS upload, NULL AS compared_file_id, NULL AS compared_sha256 \
             FROM rag_files f WHERE ? <> '' AND f.domain_id = ? AND f.external_file_id IN ",
    ];
    let mut known: HashMap<String, Known> = HashMap::new();
    for select in sources {
        let unknown: Vec<&str> = ids
            .iter()
            .copied()
            .filter(|id| !known.contains_key(*id))
            .collect();
        for chunk in unknown.chunks(MOST_ROWS) {
            let ids = padded(chunk);
            let sql = format!("{select}({}) ORDER BY f.created_at, f.id", marks(&ids));
            let mut query = sqlx::query_as(AssertSqlSafe(sql))
                .bind(provider)
                .bind(domain.as_str());
            for id in ids {
                query = query.bind(id);
            }
            let rows: Vec<Row> = query.fetch_all(&mut *db).await?;
            for row in rows {
                known.entry(row.external_id).or_insert(Known {
                    file_id: row.file_id,
                    sha256: row.sha256,
                    local_path: row.local_path,
                    size_bytes: row.size_bytes,
                    copy_sha256: row.copy_sha256,
                    upload: row.upload,
                    compared: row.compared_file_id.zip(row.compared_sha256),
                    chunking_strategy: row.chunking_strategy,
                    is_deleted: row.is_deleted,
                });
            }
        }
    }
    Ok(known)
}

/// Which of these ids of the Files API wait to be deleted, by us.
pub async fn find_retired(
    db: &mut MySqlConnection,
    provider: &str,
    ids: &[&str],
) -> Result<HashSet<String>, DbError> {
    let mut retired = HashSet::new();
    for chunk in ids.chunks(MOST_ROWS) {
        let ids = padded(chunk);
        let sql = format!(
            "SELECT subject FROM rag_provider_intents WHERE provider_id = ? AND operation = 'delete_file' AND subject IN ({})",
            marks(&ids)
        );
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(provider);
        for id in ids {
            query = query.bind(id);
        }
        retired.extend(query.fetch_all(&mut *db).await?);
    }
    Ok(retired)
}

/// As [`crate::sql::push_list`] makes lists of few lengths.
fn padded<'a>(ids: &[&'a str]) -> Vec<&'a str> {
    let mut all = ids.to_vec();
    if let Some(last) = ids.last() {
        all.resize(ids.len().next_power_of_two(), last);
    }
    all
}

fn marks(ids: &[&str]) -> String {
    vec!["?"; ids.len()].join(",")
}

/// A file whose bytes came from a provider.
#[derive(Debug, Clone, Copy)]
pub struct ImportedFile<'a> {
    pub file: &'a NewFile,
    /// As wants it.
    pub external_file_id: &'a str,
    pub external_uploaded_at: Option<DateTime<Utc>>,
}

/// The rows of files whose bytes came from a provider.
pub async fn insert_files(db: &mut MySqlConnection, files: &[ImportedFile<'_>]) -> Result<(), DbError> {
    for chunk in pieces(files) {
        let mut query = QueryBuilder::<MySql>::new(
            "INSERT INTO rag_files (id, domain_id, file_name, file_type, size_bytes, sha256, local_path, external_file_id, \
             external_uploaded_at) ",
        );
        query.push_values(chunk, |mut row, imported| {
            let file = imported.file;
            row.push_bind(Text(file.id))
                .push_bind(file.domain_id.as_str())
                .push_bind(&file.file_name)
                .push_bind(&file.file_type)
                .push_bind(file.size_bytes)
                .push_bind(&file.sha256)
                .push_bind(&file.local_path)
                .push_bind(imported.external_file_id)
                .push_bind(imported.external_uploaded_at);
        });
        query.build().execute(&mut *db).await?;
    }
    Ok(())
}

/// A copy that a provider has of one of our files.
#[derive(Debug, Clone)]
pub struct SeenCopy<'a> {
    pub file_id: FileId,
    /// As wants it.
    pub external_file_id: &'a str,
    /// Where it is another one.
    pub files_api_id: Option<&'a str>,
    pub uploaded_at: Option<DateTime<Utc>>,
    pub content_sha256: &'a str,
    /// These bytes are those of the file.
    pub is_compared: bool,
    pub raw: Option<&'a Value>,
}

impl SeenCopy<'_> {
    /// What `compared_file_id` and `compared_sha256` are to be.
    fn compared(&self) -> Option<(&str, &str)> {
        let file = self.files_api_id.unwrap_or(self.external_file_id);
        self.is_compared.then_some((file, self.content_sha256))
    }
}

/// Writes down a copy, under the file's present name (what a provider makes of names is its own matter), unless the file has
/// one at this provider; the answer tells whether it had none. A record of one that was deleted becomes its row.
pub async fn insert_copy(
    db: &mut MySqlConnection,
    provider: &str,
    copy: &SeenCopy<'_>,
) -> Result<bool, DbError> {
    // The record is of a copy that is gone, and this is another one.
    let had_record = uploads::revive(db, provider, copy.file_id, copy.content_sha256).await?;
    if had_record {
        let Move { set, legal } = make_move("status", &UploadStatus::COMPLETE);
        let sql = format!(
            "UPDATE rag_provider_file_uploads SET {set}, \
             file_name = (SELECT file_name FROM rag_files WHERE id = ?), external_file_id = ?, files_api_id = ?, \
             external_uploaded_at = ?, raw_provider_json = ?, compared_file_id = ?, compared_sha256 = ?, \
             compared_at = IF(?, UTC_TIMESTAMP(6), NULL) \
             WHERE provider_id = ? AND local_file_id = ? AND {legal}"
        );
        let result = sqlx::query(AssertSqlSafe(sql))
            .bind(Text(copy.file_id))
            .bind(copy.external_file_id)
            .bind(copy.files_api_id)
            .bind(copy.uploaded_at)
            .bind(copy.raw.map(Json))
            .bind(copy.compared().map(|(file, _)| file))
            .bind(copy.compared().map(|(_, sha256)| sha256))
            .bind(copy.is_compared)
            .bind(provider)
            .bind(Text(copy.file_id))
            .execute(db)
            .await?;
        exactly_one(&result, "upload of file", copy.file_id)?;
        return Ok(true);
    }
    Ok(insert_copies(db, provider, std::slice::from_ref(copy)).await? == 1)
}

/// As [`insert_copy`], for many files of which none has a record. Answers how many had no copy.
pub async fn insert_copies(
    db: &mut MySqlConnection,
    provider: &str,
    copies: &[SeenCopy<'_>],
) -> Result<u64, DbError> {
    let mut added = 0;
    for chunk in pieces(copies) {
        let mut query = QueryBuilder::<MySql>::new(
            "INSERT IGNORE INTO rag_provider_file_uploads (id, provider_id, local_file_id, external_file_id, files_api_id, \
             external_uploaded_at, content_sha256, status, raw_provider_json, compared_file_id, compared_sha256, compared_at, \
             file_name) ",
        );
        query.push_values(chunk, |mut row, copy| {
            row.push_bind(Text(UploadId::new()))
                .push_bind(provider)
                .push_bind(Text(copy.file_id))
                .push_bind(copy.external_file_id)
                .push_bind(copy.files_api_id)
                .push_bind(copy.uploaded_at)
                .push_bind(copy.content_sha256)
                .push("'uploaded'")
                .push_bind(copy.raw.map(Json))
                .push_bind(copy.compared().map(|(file, _)| file))
                .push_bind(copy.compared().map(|(_, sha256)| sha256))
                .push("IF(")
                .push_bind_unseparated(copy.is_compared)
                .push_unseparated(", UTC_TIMESTAMP(6), NULL)")
                .push("(SELECT file_name FROM rag_files WHERE id = ")
                .push_bind_unseparated(Text(copy.file_id))
                .push_unseparated(")");
        });
        added += query.build().execute(&mut *db).await?.rows_affected();
    }
    Ok(added)
}

/// The copies of an index's files, except those that are attached to a store of another index, and those of uploads that are
/// under way.
const COPIES_OF_INDEX: &str = "FROM rag_provider_file_uploads u JOIN rag_index_files l ON l.file_id = u.local_file_id \
     WHERE l.index_id = ? AND u.provider_id = ? AND u.status <> 'deleted' \
     AND NOT EXISTS (SELECT 1 FROM rag_index_attachments a WHERE a.index_id <> ? \
         AND a.external_file_id IN (u.external_file_id, u.files_api_id)) \
     AND NOT EXISTS (SELECT 1 FROM rag_provider_intents t WHERE t.provider_id = u.provider_id \
         AND t.operation = 'upload_file' AND t.subject = u.local_file_id)";

/// The copies of an index's files are given up with its store, except those that another index needs. Answers how
/// many.
pub async fn delete_copies_of(
    db: &mut MySqlConnection,
    provider: &str,
    index: IndexId,
) -> Result<u64, DbError> {
    let result = sqlx::query(AssertSqlSafe(format!("DELETE u {COPIES_OF_INDEX}")))
        .bind(Text(index))
        .bind(provider)
        .bind(Text(index))
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}

/// How many [`delete_copies_of`] would give up.
pub async fn count_copies_of(
    db: &mut MySqlConnection,
    provider: &str,
    index: IndexId,
) -> Result<u64, DbError> {
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) {COPIES_OF_INDEX}")))
        .bind(Text(index))
        .bind(provider)
        .bind(Text(index))
        .fetch_one(db)
        .await?;
    Ok(count.unsigned_abs())
}

/// A file that a store has and its index does not link.
#[derive(Debug, Clone)]
pub struct SeenLink {
    pub file_id: FileId,
    pub chunking_strategy: Option<ChunkingStrategy>,
}

/// Links files behind those that are linked already, in this order. Answers how many were not linked yet.
///
/// The caller holds the lock of the index's row.
pub async fn link(db: &mut MySqlConnection, index: IndexId, links: &[SeenLink]) -> Result<u64, DbError> {
    let mut next: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(CAST(include_order AS SIGNED)) + 1, 0) FROM rag_index_files WHERE index_id = ?",
    )
    .bind(Text(index))
    .fetch_one(&mut *db)
    .await?;
    let mut added = 0;
    for chunk in pieces(links) {
        let mut query = QueryBuilder::<MySql>::new(
            "INSERT IGNORE INTO rag_index_files (index_id, file_id, include_order, chunking_strategy) ",
        );
        query.push_values(chunk, |mut row, link| {
            row.push_bind(Text(index))
                .push_bind(Text(link.file_id))
                .push_bind(next)
                .push_bind(link.chunking_strategy.map(Json));
            next += 1;
        });
        added += query.build().execute(&mut *db).await?.rows_affected();
    }
    index_files::note_change(db, index).await?;
    Ok(added)
}
