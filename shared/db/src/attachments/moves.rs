//! The moves of attachments that a build makes.

use rag_domain::{AttachmentId, AttachmentState, IndexId, Transition};
use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::DbError;
use crate::sql::{MOST_ROWS, Move, Text, exactly, exactly_one, make_move, push_list};

/// The provider accepted these; `batch` is the file batch they went in with. `strategy_applied`: whether it took the strategies that
/// were asked for; rows for which none was asked don't say.
pub async fn mark_in_progress(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    batch: Option<&str>,
    strategy_applied: bool,
) -> Result<(), DbError> {
    let also = format!(
        ", attached_at = UTC_TIMESTAMP(6), ask_again_at = NULL, \
         strategy_applied = IF(chunking_strategy IS NULL, strategy_applied, {strategy_applied})"
    );
    move_all(db, ids, &AttachmentState::ACCEPT, &also, batch).await
}

/// The provider never saw these (a complete listing says so), or refused before any effect: they can be asked for again.
pub async fn mark_pending(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    move_all(db, ids, &AttachmentState::RELEASE, ", ask_again_at = NULL", None).await
}

/// The intent of a detach: the provider is about to be asked to take these out.
pub async fn mark_detaching(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    move_all(db, ids, &AttachmentState::DETACH, "", None).await
}

/// It has been taken out of the store, to go in again: its time to be indexed begins anew, and is counted.
pub async fn mark_pending_again(db: &mut MySqlConnection, id: AttachmentId) -> Result<(), DbError> {
    let Move { set, legal } = make_move("state", &AttachmentState::REATTACH);
    let sql = format!(
        "UPDATE rag_index_attachments SET {set}, reattached = reattached + 1, attached_at = NULL, \
         external_store_file_id = NULL, external_batch_id = NULL, strategy_applied = NULL, missed_at = NULL, \
         updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND {legal}"
    );
    let result = sqlx::query(AssertSqlSafe(sql)).bind(Text(id)).execute(db).await?;
    exactly_one(&result, "attachment", id)
}

/// The provider was told to stop indexing what went in with these batches, or what is left of them.
pub async fn mark_cancelled(
    db: &mut MySqlConnection,
    index: IndexId,
    batches: &[String],
) -> Result<u64, DbError> {
    if batches.is_empty() {
        return Ok(0);
    }
    let Move { set, legal } = make_move("state", &AttachmentState::CANCEL_BATCH);
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(format!(
        "UPDATE rag_index_attachments SET {set}, last_error = 'the build was cancelled', \
         updated_at = UTC_TIMESTAMP(6) WHERE {legal} AND index_id = "
    ));
    query.push_bind(Text(index)).push(" AND external_batch_id IN ");
    push_list(&mut query, batches);
    Ok(query.build().execute(db).await?.rows_affected())
}

/// A build begins: what failed or was cancelled before is taken out, to go in again.
pub async fn retry_failed(db: &mut MySqlConnection, index: IndexId) -> Result<u64, DbError> {
    let Move { set, legal } = make_move("state", &AttachmentState::RETRY);
    let sql = format!("UPDATE rag_index_attachments SET {set} WHERE index_id = ? AND {legal}");
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(Text(index))
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}

/// Moves all of `ids` or, if one of them may not move, errors with [`DbError::Conflict`].
async fn move_all(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    transition: &Transition<AttachmentState>,
    also: &str,
    batch: Option<&str>,
) -> Result<(), DbError> {
    let Move { set, legal } = make_move("state", transition);
    for chunk in ids.chunks(MOST_ROWS) {
        let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(format!(
            "UPDATE rag_index_attachments SET {set}{also}, updated_at = UTC_TIMESTAMP(6), \
             external_batch_id = COALESCE("
        ));
        query
            .push_bind(batch)
            .push(format!(", external_batch_id) WHERE {legal} AND id IN "));
        push_list(&mut query, chunk.iter().copied().map(Text));
        exactly(chunk.len(), &query.build().execute(&mut *db).await?, "attachment")?;
    }
    Ok(())
}
