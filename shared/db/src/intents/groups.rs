//! Intents of many uploads in one statement.

use std::collections::HashMap;

use rag_domain::{FileId, IntentId};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, MySqlConnection, QueryBuilder};

use super::{COLUMNS, Content, Declared, Intent, Operation};
use crate::DbError;
use crate::sql::{MOST_ROWS, Text, exactly, push_list};

/// Declares an upload of each of these files, as [`super::declare`] does for one subject. `None` for a file whose intent was
/// there, and was resolved before it could be read: others are at it.
pub async fn declare_uploads(
    db: &mut MySqlConnection,
    provider: &str,
    claim_token: &str,
    uploads: &[(FileId, Content<'_>)],
) -> Result<Vec<Option<Declared>>, DbError> {
    let mut declared = Vec::with_capacity(uploads.len());
    for chunk in uploads.chunks(MOST_ROWS) {
        let ids: Vec<IntentId> = chunk.iter().map(|_| IntentId::new()).collect();
        let rows: Vec<Value> = chunk
            .iter()
            .zip(&ids)
            .map(|((file, content), id)| {
                json!({
                    "id": id.to_string(),
                    "file": file.to_string(),
                    "sha": content.sha256,
                    "name": content.file_name,
                    "bytes": content.size_bytes,
                })
            })
            .collect();
        let sql = format!(
            "INSERT IGNORE INTO rag_provider_intents \
             (id, provider_id, operation, subject, content_sha256, file_name, size_bytes, claim_token, created_at) \
             SELECT s.id, ?, 'upload_file', s.file, s.sha, s.name, s.bytes, ?, UTC_TIMESTAMP(6) \
             FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(36) PATH '$.id', file CHAR(36) PATH '$.file', \
             sha CHAR(64) PATH '$.sha', name VARCHAR(512) PATH '$.name', bytes BIGINT UNSIGNED PATH '$.bytes')) AS s \
             RETURNING {COLUMNS}"
        );
        let mut rows: Vec<Intent> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(provider)
            .bind(claim_token)
            .bind(Json(rows))
            .fetch_all(&mut *db)
            .await?;
        if rows.len() < chunk.len() {
            rows = list_for_update(db, provider, chunk).await?;
        }
        let mut by_subject: HashMap<String, Intent> =
            rows.into_iter().map(|row| (row.subject.clone(), row)).collect();
        declared.extend(chunk.iter().zip(&ids).map(|((file, _), id)| {
            let row = by_subject.remove(&file.to_string())?;
            Some(if row.id == *id {
                Declared::New(row)
            } else {
                Declared::Existing(row)
            })
        }));
    }
    Ok(declared)
}

/// The intents of uploads of these files, locked until the transaction ends.
async fn list_for_update(
    db: &mut MySqlConnection,
    provider: &str,
    uploads: &[(FileId, Content<'_>)],
) -> Result<Vec<Intent>, DbError> {
    let mut query = QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM rag_provider_intents WHERE provider_id = ")
        .push_bind(provider)
        .push(" AND operation = ")
        .push_bind(Operation::UploadFile.as_str())
        .push(" AND subject IN ");
    push_list(&mut query, uploads.iter().map(|(file, _)| Text(*file)));
    query.push(" ORDER BY subject FOR UPDATE");
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// As [`super::resolve`], for many intents.
pub async fn resolve_many(
    db: &mut MySqlConnection,
    ids: &[IntentId],
    claim_token: &str,
) -> Result<(), DbError> {
    for chunk in ids.chunks(MOST_ROWS) {
        let mut query =
            QueryBuilder::<sqlx::MySql>::new("DELETE FROM rag_provider_intents WHERE claim_token = ");
        query.push_bind(claim_token).push(" AND id IN ");
        push_list(&mut query, chunk.iter().copied().map(Text));
        exactly(chunk.len(), &query.build().execute(&mut *db).await?, "intent")?;
    }
    Ok(())
}

/// As [`super::take_over`], for intents that one claim holds.
pub async fn take_over_many(
    db: &mut MySqlConnection,
    ids: &[IntentId],
    dead_token: Option<&str>,
    claim_token: &str,
) -> Result<(), DbError> {
    for chunk in ids.chunks(MOST_ROWS) {
        let mut query = QueryBuilder::<sqlx::MySql>::new("UPDATE rag_provider_intents SET claim_token = ");
        query
            .push_bind(claim_token)
            .push(" WHERE claim_token <=> ")
            .push_bind(dead_token)
            .push(" AND id IN ");
        push_list(&mut query, chunk.iter().copied().map(Text));
        exactly(chunk.len(), &query.build().execute(&mut *db).await?, "intent")?;
    }
    Ok(())
}
