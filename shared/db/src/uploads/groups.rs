//! Moves of many uploads in one statement, for builds that upload hundreds of files a second.

use rag_domain::{FileId, UploadId, UploadStatus};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, MySqlConnection, QueryBuilder};

use super::{COLUMNS, Upload};
use crate::DbError;
use crate::sql::{MOST_ROWS, Move, Text, exactly, make_move, push_list};

/// A copy that is wanted at a provider.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub file: FileId,
    pub content_sha256: &'a str,
    /// The name that it goes by there.
    pub file_name: &'a str,
}

/// A copy that the provider has.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    pub file: FileId,
    pub content_sha256: &'a str,
    /// In the Files API.
    pub external_file_id: &'a str,
    pub raw: &'a Value,
}

/// The uploads of these files at a provider, in no order; records of deleted copies are left out.
pub async fn list_some(
    db: &mut MySqlConnection,
    provider: &str,
    files: &[FileId],
) -> Result<Vec<Upload>, DbError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_provider_file_uploads WHERE status <> 'deleted' AND provider_id = ")
        .push_bind(provider)
        .push(" AND local_file_id IN ");
    push_list(&mut query, files.iter().copied().map(Text));
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// These contents are wanted at the provider, under these names: makes the rows, or moves them to `pending`. An older copy's
/// `external_file_id` stays in its row until the new one has arrived, unless that copy was deleted.
pub async fn mark_pending_many(
    db: &mut MySqlConnection,
    provider: &str,
    wanted: &[Wanted<'_>],
) -> Result<(), DbError> {
    for chunk in wanted.chunks(MOST_ROWS) {
        let rows: Vec<Value> = chunk
            .iter()
            .map(|wanted| {
                json!({
                    "id": UploadId::new().to_string(),
                    "file": wanted.file.to_string(),
                    "sha": wanted.content_sha256,
                    "name": wanted.file_name,
                })
            })
            .collect();
        sqlx::query(
            "INSERT INTO rag_provider_file_uploads (id, provider_id, local_file_id, content_sha256, file_name, status) \
             SELECT s.id, ?, s.file, s.sha, s.name, 'pending' FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(36) PATH '$.id', \
             file CHAR(36) PATH '$.file', sha CHAR(64) PATH '$.sha', name VARCHAR(512) PATH '$.name')) AS s \
             ON DUPLICATE KEY UPDATE \
             external_file_id = IF(status = 'deleted', NULL, external_file_id), \
             files_api_id = IF(status = 'deleted', NULL, files_api_id), \
             external_uploaded_at = IF(status = 'deleted', NULL, external_uploaded_at), \
             raw_provider_json = IF(status = 'deleted', NULL, raw_provider_json), \
             deleted_at = NULL, content_sha256 = VALUES(content_sha256), file_name = VALUES(file_name), \
             error_code = NULL, last_error = NULL, status = 'pending'",
        )
        .bind(provider)
        .bind(Json(rows))
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// The provider has these copies. Answers, with their files, the ids of older copies that they replace: retire those in the
/// same transaction (`intents::retire_file_for`). [`DbError::Conflict`] if one of the rows is not `pending` for this content.
pub async fn mark_uploaded_many(
    db: &mut MySqlConnection,
    provider: &str,
    arrived: &[Arrived<'_>],
) -> Result<Vec<(FileId, String)>, DbError> {
    let Move { set, legal } = make_move("u.status", &UploadStatus::COMPLETE);
    let sql = format!(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (file CHAR(36) PATH '$.file', sha CHAR(64) PATH '$.sha', \
         external VARCHAR(255) PATH '$.external', raw LONGTEXT PATH '$.raw')) AS s \
         STRAIGHT_JOIN rag_provider_file_uploads AS u FORCE INDEX (uq_rpfu_provider_file) \
         ON u.provider_id = ? AND u.local_file_id = CONVERT(s.file USING ascii) \
         SET {set}, u.external_file_id = s.external, u.files_api_id = NULL, \
         u.external_uploaded_at = UTC_TIMESTAMP(6), u.error_code = NULL, u.last_error = NULL, u.raw_provider_json = s.raw \
         WHERE u.content_sha256 = CONVERT(s.sha USING ascii) AND {legal}"
    );
    let mut older = Vec::new();
    for chunk in arrived.chunks(MOST_ROWS) {
        older.extend(list_older(db, provider, chunk).await?);
        let rows: Vec<Value> = chunk
            .iter()
            .map(|copy| {
                json!({
                    "file": copy.file.to_string(),
                    "sha": copy.content_sha256,
                    "external": copy.external_file_id,
                    "raw": copy.raw.to_string(),
                })
            })
            .collect();
        let result = sqlx::query(AssertSqlSafe(sql.as_str()))
            .bind(Json(rows))
            .bind(provider)
            .execute(&mut *db)
            .await?;
        exactly(chunk.len(), &result, "file upload")?;
    }
    Ok(older)
}

/// Copies that the rows of these files name, and that are others than those that have arrived. The rows are locked.
async fn list_older(
    db: &mut MySqlConnection,
    provider: &str,
    arrived: &[Arrived<'_>],
) -> Result<Vec<(FileId, String)>, DbError> {
    let mut query = QueryBuilder::<sqlx::MySql>::new(
        "SELECT local_file_id, COALESCE(files_api_id, external_file_id) FROM rag_provider_file_uploads WHERE provider_id = ",
    );
    query.push_bind(provider).push(" AND local_file_id IN ");
    push_list(&mut query, arrived.iter().map(|copy| Text(copy.file)));
    query.push(" ORDER BY local_file_id FOR UPDATE");
    let rows: Vec<(Text<FileId>, Option<String>)> = query.build_query_as().fetch_all(db).await?;
    Ok(rows
        .into_iter()
        .filter_map(|(Text(file), older)| Some((file, older?)))
        .filter(|(file, older)| {
            arrived
                .iter()
                .any(|copy| copy.file == *file && copy.external_file_id != older)
        })
        .collect())
}
