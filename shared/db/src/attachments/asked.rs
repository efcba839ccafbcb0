//! Attach requests without an answer yet: their intent, and how long to wait for the answer.

use std::time::Duration;

use rag_domain::{AttachMethod, AttachmentId};
use sqlx::{MySqlConnection, QueryBuilder};

use super::AttachmentState;
use crate::DbError;
use crate::sql::{MOST_ROWS, Move, Text, exactly, exactly_one, make_move, push_list};

/// The intent of an attach: the provider is about to be asked to attach these, by this method. `patience`: how long the
/// answer, or the file in the store, may take, even if this worker dies.
pub async fn mark_attaching(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    way: AttachMethod,
    patience: Duration,
) -> Result<(), DbError> {
    let Move { set, legal } = make_move("state", &AttachmentState::ATTACH);
    for chunk in ids.chunks(MOST_ROWS) {
        let mut query = QueryBuilder::<sqlx::MySql>::new(format!(
            "UPDATE rag_index_attachments SET {set}, strategy_applied = NULL, \
             external_batch_id = NULL, attached_at = NULL, missed_at = NULL, \
             updated_at = UTC_TIMESTAMP(6), attach_method = "
        ));
        query
            .push_bind(Text(way))
            .push(", ask_again_at = UTC_TIMESTAMP(6) + INTERVAL ")
            .push_bind(micros(patience))
            .push(format!(" MICROSECOND WHERE {legal} AND id IN "));
        push_list(&mut query, chunk.iter().copied().map(Text));
        exactly(chunk.len(), &query.build().execute(&mut *db).await?, "attachment")?;
    }
    Ok(())
}

/// The answer did not come in time, but the provider may still be working. The request is not repeated before `patience` is
/// over.
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
