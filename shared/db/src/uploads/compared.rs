//! Copies whose bytes were compared with ours: what a sync need not download again.
//!
//! A mark names the file in the Files API and the hash that was equal, so nobody has to clear it: another copy, or other
//! contents here, do not fit it (`imports::Known::was_found_equal`). It is no change of the copy, so `updated_at` stays.

use rag_domain::FileId;
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{MySql, MySqlConnection, QueryBuilder};

use crate::DbError;
use crate::sql::{MOST_ROWS, Text, push_list};

/// A copy whose bytes are those of its file.
#[derive(Debug, Clone, Copy)]
pub struct FoundEqual<'a> {
    pub file: FileId,
    /// As rows name the copy.
    pub external_file_id: &'a str,
    /// In the Files API.
    pub files_api_id: &'a str,
    pub sha256: &'a str,
}

/// The bytes of these copies were found equal to those of their files. Rows that name another copy by now are left alone.
pub async fn mark_equal(
    db: &mut MySqlConnection,
    provider: &str,
    equal: &[FoundEqual<'_>],
) -> Result<(), DbError> {
    for chunk in equal.chunks(MOST_ROWS) {
        let rows: Vec<Value> = chunk
            .iter()
            .map(|equal| {
                json!({
                    "file": equal.file.to_string(),
                    "external": equal.external_file_id,
                    "api": equal.files_api_id,
                    "sha": equal.sha256,
                })
            })
            .collect();
        sqlx::query(
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (file CHAR(36) PATH '$.file', external VARCHAR(255) PATH '$.external', \
             api VARCHAR(255) PATH '$.api', sha CHAR(64) PATH '$.sha')) AS s \
             STRAIGHT_JOIN rag_provider_file_uploads AS u FORCE INDEX (uq_rpfu_provider_file) \
             ON u.provider_id = ? AND u.local_file_id = CONVERT(s.file USING ascii) \
             SET u.compared_file_id = s.api, u.compared_sha256 = s.sha, u.compared_at = UTC_TIMESTAMP(6), \
             u.updated_at = u.updated_at \
             WHERE u.external_file_id = CONVERT(s.external USING utf8mb4) COLLATE utf8mb4_bin",
        )
        .bind(Json(rows))
        .bind(provider)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// The bytes of the copies of these files are not known to be equal any more.
pub async fn clear_equal(db: &mut MySqlConnection, provider: &str, files: &[FileId]) -> Result<(), DbError> {
    if files.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<MySql>::new(
        "UPDATE rag_provider_file_uploads SET compared_file_id = NULL, compared_sha256 = NULL, compared_at = NULL, \
         updated_at = updated_at WHERE provider_id = ",
    );
    query.push_bind(provider).push(" AND local_file_id IN ");
    push_list(&mut query, files.iter().copied().map(Text));
    query.build().execute(db).await?;
    Ok(())
}
