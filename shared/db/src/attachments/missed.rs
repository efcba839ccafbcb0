//! Files that are missing from a complete listing of their store: since when, and what follows once that is proven.

use rag_domain::{AttachmentId, AttachmentState, IndexId};
use sqlx::{AssertSqlSafe, MySqlConnection, QueryBuilder};

use crate::DbError;
use crate::sql::{MOST_ROWS, Move, Text, exactly_one, make_move, push_list};

/// The error code of a file that was in its store and no longer is.
pub const NOT_IN_STORE: &str = "not_in_store";

/// The error code of a file that a build gave up before it asked the provider to attach it.
pub const NOT_ATTACHED: &str = "not_attached";

/// A complete listing lacks these. The time of the first such listing stays.
pub async fn mark_missed(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    set(
        db,
        ids,
        "missed_at = COALESCE(missed_at, UTC_TIMESTAMP(6)), updated_at = updated_at",
        "TRUE",
    )
    .await
    .map(drop)
}

/// These were seen.
pub async fn clear_missed(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    set(
        db,
        ids,
        "missed_at = NULL, updated_at = updated_at",
        "missed_at IS NOT NULL",
    )
    .await
    .map(drop)
}

/// The requests to attach these are proven to have had no effect: the next method is tried. A single attach is repeated, and
/// counted like a file that was not indexed in time.
pub async fn advance_method(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    let next = "next_method = GREATEST(next_method, CASE attach_method WHEN 'batch_files' THEN 1 ELSE 2 END), \
         reattached = reattached + (attach_method IS NULL OR attach_method = 'single'), ";
    put_back(db, ids, next).await
}

/// These were in the store, and are proven to have left it without our doing: they are attached again.
pub async fn mark_lost(db: &mut MySqlConnection, ids: &[AttachmentId]) -> Result<(), DbError> {
    put_back(db, ids, "").await
}

async fn put_back(db: &mut MySqlConnection, ids: &[AttachmentId], also: &str) -> Result<(), DbError> {
    let Move {
        set: to_pending,
        legal,
    } = make_move("state", &AttachmentState::LOSE);
    let change = format!(
        "{also}{to_pending}, attached_at = NULL, external_batch_id = NULL, external_store_file_id = NULL, \
         strategy_applied = NULL, missed_at = NULL, ask_again_at = NULL, error_code = NULL, last_error = NULL, \
         updated_at = UTC_TIMESTAMP(6)"
    );
    let moved = set(db, ids, &change, &legal).await?;
    if moved == ids.len() as u64 {
        Ok(())
    } else {
        Err(DbError::Conflict {
            what: "attachment",
            id: format!("(one of {})", ids.len()),
        })
    }
}

/// As [`mark_lost`], while no build is at work: the file has failed until a build attaches it again.
pub async fn mark_left(db: &mut MySqlConnection, id: AttachmentId, error: &str) -> Result<(), DbError> {
    let Move { set, legal } = make_move("state", &AttachmentState::LEAVE);
    let sql = format!(
        "UPDATE rag_index_attachments SET {set}, error_code = ?, last_error = ?, missed_at = NULL, \
         updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND {legal}"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(NOT_IN_STORE)
        .bind(error)
        .bind(Text(id))
        .execute(db)
        .await?;
    exactly_one(&result, "attachment", id)
}

/// A build has ended before it asked for the pending files: they have failed until the next build. Answers their number.
pub async fn give_up(db: &mut MySqlConnection, index: IndexId, error: &str) -> Result<u64, DbError> {
    let Move { set, legal } = make_move("state", &AttachmentState::GIVE_UP);
    let sql = format!(
        "UPDATE rag_index_attachments SET {set}, error_code = ?, last_error = ?, \
         updated_at = UTC_TIMESTAMP(6) WHERE index_id = ? AND {legal}"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(NOT_ATTACHED)
        .bind(error)
        .bind(Text(index))
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}

/// A build begins: files that an earlier build gave up before it asked for them are in no store, so their rows just go.
pub async fn forget_given_up(db: &mut MySqlConnection, index: IndexId) -> Result<u64, DbError> {
    let result = sqlx::query(
        "DELETE FROM rag_index_attachments WHERE index_id = ? AND state = 'failed' AND error_code = ?",
    )
    .bind(Text(index))
    .bind(NOT_ATTACHED)
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// The names of the linked files that left the store of an index without our doing and were not attached again.
pub async fn list_left(db: &mut MySqlConnection, index: IndexId) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT f.file_name FROM rag_index_attachments a \
         JOIN rag_index_files l ON l.index_id = a.index_id AND l.file_id = a.local_file_id \
         JOIN rag_files f ON f.id = a.local_file_id \
         WHERE a.index_id = ? AND a.state = 'failed' AND a.error_code = ? ORDER BY l.include_order, f.id",
    )
    .bind(Text(index))
    .bind(NOT_IN_STORE)
    .fetch_all(db)
    .await?)
}

async fn set(
    db: &mut MySqlConnection,
    ids: &[AttachmentId],
    change: &str,
    condition: &str,
) -> Result<u64, DbError> {
    let mut moved = 0;
    for chunk in ids.chunks(MOST_ROWS) {
        let mut query = QueryBuilder::<sqlx::MySql>::new(format!(
            "UPDATE rag_index_attachments SET {change} WHERE {condition} AND id IN "
        ));
        push_list(&mut query, chunk.iter().copied().map(Text));
        moved += query.build().execute(&mut *db).await?.rows_affected();
    }
    Ok(moved)
}
