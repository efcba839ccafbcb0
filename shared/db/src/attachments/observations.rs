//! What a poll of a provider reports of the files in its stores.

use rag_domain::{AttachmentId, AttachmentState};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::DbError;
use crate::sql::{exactly, make_move};

/// What a poll reported of one file.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// `in_progress` or a settled state.
    pub state: AttachmentState,
    /// What the store calls the file, if it is not what the Files API calls it.
    pub external_store_file_id: Option<&'a str>,
    pub reported_strategy: Option<&'a Value>,
    /// What can be told from `reported_strategy`; it does not override what the answer to the attach told.
    pub strategy_applied: Option<bool>,
    pub usage_bytes: Option<u64>,
    pub error_code: Option<&'a str>,
    pub last_error: Option<&'a str>,
}

/// Records what the provider reports of many files, in few statements.
pub async fn observe_many(
    db: &mut MySqlConnection,
    seen: &[(AttachmentId, Observation<'_>)],
) -> Result<(), DbError> {
    // Whatever a provider reports is legal from the same states: `rag-domain` tests it.
    let sql = format!(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(36) PATH '$.id', state VARCHAR(32) PATH '$.state', \
         store_file VARCHAR(255) PATH '$.store_file', strategy TEXT PATH '$.strategy', applied INT PATH '$.applied', \
         bytes BIGINT UNSIGNED PATH '$.bytes', code VARCHAR(64) PATH '$.code', error TEXT PATH '$.error')) AS s \
         STRAIGHT_JOIN rag_index_attachments AS a FORCE INDEX (PRIMARY) ON a.id = CONVERT(s.id USING ascii) \
         SET a.state = s.state, a.external_store_file_id = COALESCE(s.store_file, a.external_store_file_id), \
         a.reported_strategy = COALESCE(s.strategy, a.reported_strategy), \
         a.strategy_applied = COALESCE(a.strategy_applied, s.applied), a.usage_bytes = s.bytes, a.error_code = s.code, \
         a.last_error = s.error, a.attached_at = COALESCE(a.attached_at, UTC_TIMESTAMP(6)), a.missed_at = NULL, a.ask_again_at = NULL, \
         a.updated_at = UTC_TIMESTAMP(6) \
         WHERE {}",
        make_move("a.state", &AttachmentState::ACCEPT).legal
    );
    for chunk in seen.chunks(500) {
        let rows: Vec<Value> = chunk
            .iter()
            .map(|(id, seen)| {
                json!({
                    "id": id.to_string(),
                    "state": seen.state,
                    "store_file": seen.external_store_file_id,
                    "strategy": seen.reported_strategy.map(Value::to_string),
                    "applied": seen.strategy_applied.map(u8::from),
                    "bytes": seen.usage_bytes,
                    "code": seen.error_code.map(|code| code.chars().take(64).collect::<String>()),
                    "error": seen.last_error,
                })
            })
            .collect();
        let result = sqlx::query(AssertSqlSafe(sql.as_str()))
            .bind(Json(rows))
            .execute(&mut *db)
            .await?;
        exactly(chunk.len(), &result, "attachment")?;
    }
    Ok(())
}

/// As [`observe_many`], for one file.
pub async fn observe(
    db: &mut MySqlConnection,
    id: AttachmentId,
    seen: &Observation<'_>,
) -> Result<(), DbError> {
    observe_many(db, &[(id, seen.clone())]).await
}
