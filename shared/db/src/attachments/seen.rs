//! What a sync writes: the provider's word on which files are attached to a store, even against our own rows.

use chrono::{DateTime, Utc};
use rag_domain::{AttachmentId, AttachmentState};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{NewAttachment, Observation};
use crate::DbError;
use crate::error::on_duplicate;
use crate::sql::{Move, Text, exactly_one, make_move, one_of, pieces};

/// As [`observe`](super::observe), but the provider's word also wins against ours: for a sync, while no build is at work on
/// the index.
pub async fn correct(
    db: &mut MySqlConnection,
    id: AttachmentId,
    seen: &Observation<'_>,
) -> Result<(), DbError> {
    let correction = seen.state.correction().ok_or_else(|| DbError::Conflict {
        what: "attachment",
        id: id.to_string(),
    })?;
    let Move { set, legal } = make_move("state", &correction);
    let sql = format!(
        "UPDATE rag_index_attachments SET {set}, external_store_file_id = COALESCE(?, external_store_file_id), \
         reported_strategy = COALESCE(?, reported_strategy), strategy_applied = COALESCE(?, strategy_applied), usage_bytes = ?, \
         error_code = ?, last_error = ?, attached_at = COALESCE(attached_at, UTC_TIMESTAMP(6)), missed_at = NULL, ask_again_at = NULL, updated_at = UTC_TIMESTAMP(6) \
         WHERE id = ? AND {legal}"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(seen.external_store_file_id)
        .bind(seen.reported_strategy.map(Json))
        .bind(seen.strategy_applied)
        .bind(seen.usage_bytes)
        .bind(seen.error_code)
        .bind(seen.last_error)
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "attachment", id)
}

/// A file that is attached to the store, though not by us.
#[derive(Debug, Clone)]
pub struct SeenAttachment<'a> {
    pub row: NewAttachment<'a>,
    pub seen: Observation<'a>,
    pub attached_at: Option<DateTime<Utc>>,
}

/// Records files that are attached to a store. [`DbError::Duplicate`] if one of them has a row there.
pub async fn insert_seen(db: &mut MySqlConnection, files: &[SeenAttachment<'_>]) -> Result<(), DbError> {
    for chunk in pieces(files) {
        let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(
            "INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, \
             external_store_file_id, content_sha256, size_bytes, chunking_strategy, state, reported_strategy, \
             strategy_applied, usage_bytes, error_code, last_error, attached_at) ",
        );
        query.push_values(chunk, |mut values, file| {
            let (row, seen) = (&file.row, &file.seen);
            values
                .push_bind(Text(AttachmentId::new()))
                .push_bind(Text(row.index_id))
                .push_bind(row.external_store_id)
                .push_bind(Text(row.local_file_id))
                .push_bind(row.external_file_id)
                .push_bind(seen.external_store_file_id)
                .push_bind(row.content_sha256)
                .push_bind(row.size_bytes)
                .push_bind(row.chunking_strategy.map(Json))
                .push_bind(Text(seen.state))
                .push_bind(seen.reported_strategy.map(Json))
                .push_bind(seen.strategy_applied)
                .push_bind(seen.usage_bytes)
                .push_bind(seen.error_code)
                .push_bind(seen.last_error)
                .push("COALESCE(")
                .push_bind_unseparated(file.attached_at)
                .push_unseparated(", UTC_TIMESTAMP(6))");
        });
        query
            .build()
            .execute(&mut *db)
            .await
            .map_err(on_duplicate("attachment"))?;
    }
    Ok(())
}

/// The provider's complete listing of the store no longer has this file, which was attached to it.
pub async fn delete_gone(db: &mut MySqlConnection, id: AttachmentId) -> Result<(), DbError> {
    let sql = format!(
        "DELETE FROM rag_index_attachments WHERE id = ? AND {}",
        one_of("state", AttachmentState::PRESENT)
    );
    let result = sqlx::query(AssertSqlSafe(sql)).bind(Text(id)).execute(db).await?;
    exactly_one(&result, "attachment", id)
}

/// How many files are attached to stores of this provider, by our rows.
pub async fn count_at(db: &mut MySqlConnection, provider: &str) -> Result<u64, DbError> {
    let sql = format!(
        "SELECT COUNT(*) FROM rag_indexes i JOIN rag_index_attachments a ON a.index_id = i.id \
         WHERE i.provider_type = ? AND {}",
        one_of("a.state", AttachmentState::PRESENT)
    );
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(provider)
        .fetch_one(db)
        .await?;
    Ok(count.unsigned_abs())
}
