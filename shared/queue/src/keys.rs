//! Unique keys and concurrency keys: taking them, passing them on, giving them back.
//!
//! Whoever touches a key first locks its slot in `queue_key_locks`, a row that is always there. Rows that come and go
//! make poor locks: when a transaction that inserted one is rolled back, InnoDB turns the locks of those who waited for
//! it into gap locks, and they deadlock with each other. With the slots nobody ever waits for a key's own row.
//!
//! Lock order, everywhere: a running job's row, its concurrency key, a blocked job's row, its unique key. Who must lock
//! a job's row after a key (cancel, retry) does not wait for it.

use sqlx::MySqlConnection;

use crate::id::JobId;
use crate::state::Move;

const LOCK_CONCURRENCY: &str = "SELECT slot FROM queue_key_locks WHERE slot = CRC32(?) % 512 FOR UPDATE";
const LOCK_UNIQUE: &str =
    "SELECT slot FROM queue_key_locks WHERE slot = 512 + CRC32(CONCAT(?, ':', ?)) % 512 FOR UPDATE";

/// Keeps everybody else off the concurrency key until the transaction is over.
pub(crate) async fn lock_concurrency(conn: &mut MySqlConnection, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query(LOCK_CONCURRENCY).bind(key).fetch_one(conn).await?;
    Ok(())
}

async fn lock_unique(conn: &mut MySqlConnection, kind: &str, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query(LOCK_UNIQUE)
        .bind(kind)
        .bind(key)
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// Takes the concurrency key for `job`, or keeps it; locks the key until the transaction is over. Answers whether the
/// job has it now.
pub(crate) async fn take_concurrency(
    conn: &mut MySqlConnection,
    key: &str,
    job: JobId,
) -> Result<bool, sqlx::Error> {
    let holder: JobId = sqlx::query_scalar(
        "INSERT INTO queue_concurrency_keys (concurrency_key, job_id) VALUES (?, ?) \
         ON DUPLICATE KEY UPDATE job_id = job_id RETURNING job_id",
    )
    .bind(key)
    .bind(job)
    .fetch_one(conn)
    .await?;
    Ok(holder == job)
}

/// Undoes a [`take_concurrency`] of this transaction.
pub(crate) async fn drop_concurrency(
    conn: &mut MySqlConnection,
    key: &str,
    job: JobId,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM queue_concurrency_keys WHERE concurrency_key = ? AND job_id = ?")
        .bind(key)
        .bind(job)
        .execute(conn)
        .await?;
    Ok(())
}

/// Queues a job up for a key that another has.
pub(crate) async fn wait_for_concurrency(
    conn: &mut MySqlConnection,
    key: &str,
    job: JobId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO queue_blocked (concurrency_key, rank_us, job_id) \
         SELECT ?, rank_us, id FROM queue_jobs WHERE id = ?",
    )
    .bind(key)
    .bind(job)
    .execute(conn)
    .await?;
    Ok(())
}

/// `job` is over: if it has the key, the next in line gets it and is ready; if it waits for the key, it leaves the
/// line.
pub(crate) async fn release_concurrency(
    conn: &mut MySqlConnection,
    key: &str,
    job: JobId,
) -> Result<(), sqlx::Error> {
    lock_concurrency(conn, key).await?;
    let holder: Option<JobId> =
        sqlx::query_scalar("SELECT job_id FROM queue_concurrency_keys WHERE concurrency_key = ? FOR UPDATE")
            .bind(key)
            .fetch_optional(&mut *conn)
            .await?;
    if holder != Some(job) {
        sqlx::query("DELETE FROM queue_blocked WHERE concurrency_key = ? AND job_id = ?")
            .bind(key)
            .bind(job)
            .execute(conn)
            .await?;
        return Ok(());
    }
    let next: Option<(i64, JobId)> = sqlx::query_as(
        "SELECT rank_us, job_id FROM queue_blocked WHERE concurrency_key = ? ORDER BY rank_us, job_id LIMIT 1 FOR UPDATE",
    )
    .bind(key)
    .fetch_optional(&mut *conn)
    .await?;
    let Some((rank_us, next)) = next else {
        return drop_concurrency(conn, key, job).await;
    };
    sqlx::query("DELETE FROM queue_blocked WHERE concurrency_key = ? AND rank_us = ? AND job_id = ?")
        .bind(key)
        .bind(rank_us)
        .bind(next)
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE queue_concurrency_keys SET job_id = ? WHERE concurrency_key = ?")
        .bind(next)
        .bind(key)
        .execute(&mut *conn)
        .await?;
    let unblock = format!(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = '{}', order_us = rank_us WHERE id = ? AND {}",
        Move::Unblock.to(),
        Move::Unblock.condition()
    );
    let unblocked = sqlx::query(sqlx::AssertSqlSafe(unblock))
        .bind(next)
        .execute(conn)
        .await?
        .rows_affected();
    if unblocked != 1 {
        tracing::error!(job.id = %next, "a job in line for a concurrency key is not blocked");
    }
    Ok(())
}

/// Takes the unique key for `job`. Answers who has it now: `job`, or the active job that had it before.
pub(crate) async fn take_unique(
    conn: &mut MySqlConnection,
    kind: &str,
    key: &str,
    job: JobId,
) -> Result<JobId, sqlx::Error> {
    lock_unique(conn, kind, key).await?;
    sqlx::query_scalar(
        "INSERT INTO queue_unique_keys (kind, unique_key, job_id) VALUES (?, ?, ?) \
         ON DUPLICATE KEY UPDATE job_id = job_id RETURNING job_id",
    )
    .bind(kind)
    .bind(key)
    .bind(job)
    .fetch_one(conn)
    .await
}

pub(crate) async fn release_unique(
    conn: &mut MySqlConnection,
    kind: &str,
    key: &str,
    job: JobId,
) -> Result<(), sqlx::Error> {
    lock_unique(conn, kind, key).await?;
    sqlx::query("DELETE FROM queue_unique_keys WHERE kind = ? AND unique_key = ? AND job_id = ?")
        .bind(kind)
        .bind(key)
        .bind(job)
        .execute(conn)
        .await?;
    Ok(())
}
