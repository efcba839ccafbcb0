//! What belongs in an index, read together: links, files and their copies at the provider.

use rag_domain::{ChunkingStrategy, DesiredFile, DomainId, FileId, IndexId, UploadStatus, UploadedFile};
use sqlx::{FromRow, MySql, MySqlConnection, QueryBuilder};

use crate::DbError;
use crate::sql::{Text, push_list};

/// A file of an index with all that a build needs to know of it.
#[derive(Debug, Clone)]
pub struct Member {
    pub desired: DesiredFile,
    pub file_name: String,
    /// MIME type.
    pub file_type: String,
    /// Relative to FILES_ROOT.
    pub local_path: String,
    /// The upload row's own; `desired.upload` speaks in ids of the Files API.
    pub external_file_id: Option<String>,
    /// Why the last upload failed.
    pub upload_error: Option<String>,
    /// What kind of failure that was.
    pub upload_error_code: Option<String>,
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Text<FileId>")]
    file_id: FileId,
    file_name: String,
    file_type: String,
    local_path: String,
    size_bytes: u64,
    sha256: String,
    include_order: u32,
    #[sqlx(json(nullable))]
    link_strategy: Option<ChunkingStrategy>,
    #[sqlx(json(nullable))]
    file_strategy: Option<ChunkingStrategy>,
    #[sqlx(json(nullable))]
    index_strategy: Option<ChunkingStrategy>,
    upload_status: Option<Text<UploadStatus>>,
    content_sha256: Option<String>,
    upload_name: Option<String>,
    external_file_id: Option<String>,
    files_api_id: Option<String>,
    upload_error: Option<String>,
    upload_error_code: Option<String>,
}

const SELECT: &str = "SELECT f.id AS file_id, f.file_name, f.file_type, f.local_path, f.size_bytes, f.sha256, l.include_order, \
            l.chunking_strategy AS link_strategy, f.chunking_strategy AS file_strategy, \
            i.chunking_strategy AS index_strategy, u.status AS upload_status, u.content_sha256, u.file_name AS upload_name, u.external_file_id, \
            u.files_api_id, u.last_error AS upload_error, u.error_code AS upload_error_code \
     FROM rag_indexes i \
     JOIN rag_index_files l ON l.index_id = i.id \
     JOIN rag_files f ON f.id = l.file_id AND f.domain_id = i.domain_id AND f.deleted_at IS NULL \
     LEFT JOIN rag_provider_file_uploads u ON u.local_file_id = f.id AND u.provider_id = i.provider_type \
       AND u.status <> 'deleted' \
     WHERE i.deleted_at IS NULL AND i.id = ";

/// Where a page of the composition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    include_order: u32,
    file_id: FileId,
}

/// The composition of an index in its order. Files of another domain than the index's never appear.
pub async fn list(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
) -> Result<Vec<Member>, DbError> {
    let mut query = select(domain, index);
    query.push(" ORDER BY l.include_order, l.file_id");
    let rows: Vec<Row> = query.build_query_as().fetch_all(db).await?;
    Ok(rows.into_iter().map(Member::from).collect())
}

/// As [`list`], one page of at most `limit` files. The position to go on after is `None` with the last page.
pub async fn list_page(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
    after: Option<Position>,
    limit: u32,
) -> Result<(Vec<Member>, Option<Position>), DbError> {
    let mut query = select(domain, index);
    if let Some(after) = after {
        query
            // The first condition is what makes it a range of the key.
            .push(" AND l.include_order >= ")
            .push_bind(after.include_order)
            .push(" AND (l.include_order > ")
            .push_bind(after.include_order)
            .push(" OR l.file_id > ")
            .push_bind(Text(after.file_id))
            .push(")");
    }
    query
        .push(" ORDER BY l.include_order, l.file_id LIMIT ")
        .push_bind(limit);
    let rows: Vec<Row> = query.build_query_as().fetch_all(db).await?;
    let is_full = rows.len() >= limit as usize;
    let next = rows.last().filter(|_| is_full).map(|row| Position {
        include_order: row.include_order,
        file_id: row.file_id,
    });
    Ok((rows.into_iter().map(Member::from).collect(), next))
}

/// Those of these files that belong in the index, in no order.
pub async fn list_some(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index: IndexId,
    files: &[FileId],
) -> Result<Vec<Member>, DbError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = select(domain, index);
    query.push(" AND l.file_id IN ");
    push_list(&mut query, files.iter().copied().map(Text));
    let rows: Vec<Row> = query.build_query_as().fetch_all(db).await?;
    Ok(rows.into_iter().map(Member::from).collect())
}

fn select(domain: &DomainId, index: IndexId) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(SELECT);
    query
        .push_bind(Text(index))
        .push(" AND i.domain_id = ")
        .push_bind(domain.as_str().to_owned());
    query
}

impl From<Row> for Member {
    fn from(row: Row) -> Self {
        let upload = match (row.upload_status, row.content_sha256) {
            (Some(status), Some(content_sha256)) => Some(UploadedFile {
                status: status.0,
                content_sha256,
                file_name: row.upload_name,
                external_file_id: row.files_api_id.or_else(|| row.external_file_id.clone()),
            }),
            _ => None,
        };
        let strategy = ChunkingStrategy::effective(row.link_strategy, row.file_strategy, row.index_strategy);
        Self {
            desired: DesiredFile {
                file_id: row.file_id,
                file_name: row.file_name.clone(),
                content_sha256: row.sha256,
                size_bytes: row.size_bytes,
                strategy,
                upload,
            },
            file_name: row.file_name,
            file_type: row.file_type,
            local_path: row.local_path,
            external_file_id: row.external_file_id,
            upload_error: row.upload_error,
            upload_error_code: row.upload_error_code,
        }
    }
}
