//! What was asked of a provider and may still come: the intent of an attach, and how long its answer is waited for.

use std::time::Duration;

use rag_domain::{AttachMethod, AttachmentId};
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::AttachmentState;
use crate::DbError;
use crate::sql::{Text, exactly_one, in_list, pieces};

/// The intent of an attach: the provider is about to be asked for these, by this way. `patience`: so long its answer, or the
/// file in the store, may still come, whatever becomes of this worker.
pub async fn mark_attaching(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    way: AttachMethod,
    patience: Duration,
) -> Result<(), DbError> {
    for chunk in pieces(ids) {
        let marks = vec!["?"; chunk.len()].join(",");
        let sql = format!(
            "UPDATE rag_index_attachments SET state = 'attaching', strategy_applied = NULL, attach_method = ?, \
             external_batch_id = NULL, attached_at = NULL, missed_at = NULL, \
             ask_again_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, updated_at = UTC_TIMESTAMP(6) \
             WHERE id IN ({marks}) AND state IN {}",
            in_list(AttachmentState::Attaching.predecessors())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(Text(way))
            .bind(micros(patience));
        for id in chunk {
            query = query.bind(Text(*id));
        }
        let moved = query.execute(&mut *db).await?.rows_affected();
        if moved != chunk.len() as u64 {
            return Err(DbError::Conflict {
                what: "attachment",
                id: format!("(one of {})", chunk.len()),
            });
        }
    }
    Ok(())
}

/// The answer did not come in time; the provider may be at it still. It is not asked for again before `patience` is over.
pub async fn wait_longer(
    db: &mut MySqlConnection,
    id: AttachmentId,
    patience: Duration,
) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_index_attachments SET ask_again_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, \
         updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND state = 'attaching'",
    )
    .bind(micros(patience))
    .bind(Text(id))
    .execute(db)
    .await?;
    exactly_one(&result, "attachment", id)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
