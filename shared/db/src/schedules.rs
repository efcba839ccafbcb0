//! `rag_schedules`: when recurring work of the fleet is due. However many workers ask, one of them is told "now".

use std::time::Duration;

use sqlx::MySqlConnection;

use crate::DbError;

/// Whether the work is due; then it is not again before `every` has passed. What it starts belongs into the same
/// transaction: if that fails, the work stays due.
///
/// Work that is new is due after `every`, not at once: a restart starts nothing. An interval that was made shorter counts
/// from now on.
pub async fn take_turn(db: &mut MySqlConnection, name: &str, every: Duration) -> Result<bool, DbError> {
    let micros = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
    let taken = sqlx::query(
        "UPDATE rag_schedules SET due_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
         WHERE name = ? AND due_at <= UTC_TIMESTAMP(6)",
    )
    .bind(micros)
    .bind(name)
    .execute(&mut *db)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(true);
    }
    sqlx::query(
        "INSERT INTO rag_schedules (name, due_at) VALUES (?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND) \
         ON DUPLICATE KEY UPDATE due_at = LEAST(due_at, VALUES(due_at))",
    )
    .bind(name)
    .bind(micros)
    .execute(db)
    .await?;
    Ok(false)
}
