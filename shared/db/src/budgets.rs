//! `rag_provider_budgets`: when the fleet may send its next requests to a provider. Times are the database's, in
//! microseconds, so that the clocks of the processes don't matter.

use std::time::Duration;

use sqlx::MySqlConnection;

use crate::DbError;

pub(crate) const NOW_US: &str = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)";

/// What [`reserve`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// The slots are ours; the first begins after this wait.
    Granted { wait: Duration },
    /// Nothing was reserved: there is no slot for so long.
    Full { wait: Duration },
}

/// Takes the next slots, `span` long altogether, unless they begin later than `longest_wait` from now.
pub async fn reserve(
    db: &mut MySqlConnection,
    provider: &str,
    span: Duration,
    longest_wait: Duration,
) -> Result<Reservation, DbError> {
    let sql = format!(
        "UPDATE rag_provider_budgets \
         SET next_us = {NOW_US} + LAST_INSERT_ID(GREATEST(next_us, paused_until_us, {NOW_US}) - {NOW_US} + ?) \
         WHERE provider_id = ? AND GREATEST(next_us, paused_until_us) <= {NOW_US} + ?"
    );
    for _ in 0..2 {
        let result = sqlx::query(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(micros(span))
            .bind(provider)
            .bind(micros(longest_wait))
            .execute(&mut *db)
            .await?;
        if result.rows_affected() == 1 {
            let end = Duration::from_micros(result.last_insert_id());
            return Ok(Reservation::Granted {
                wait: end.saturating_sub(span),
            });
        }
        if let Some(wait) = wait(db, provider, "GREATEST(next_us, paused_until_us)").await? {
            return Ok(Reservation::Full { wait });
        }
        create(db, provider).await?;
    }
    Ok(Reservation::Full { wait: longest_wait })
}

/// The rest of the fleet's pause; zero: there is none.
pub async fn remaining_pause(db: &mut MySqlConnection, provider: &str) -> Result<Duration, DbError> {
    Ok(wait(db, provider, "paused_until_us").await?.unwrap_or_default())
}

/// The provider asked for a pause: no process sends anything for so long.
pub async fn pause(db: &mut MySqlConnection, provider: &str, pause: Duration) -> Result<(), DbError> {
    create(db, provider).await?;
    let sql = format!(
        "UPDATE rag_provider_budgets SET paused_until_us = GREATEST(paused_until_us, {NOW_US} + ?) WHERE provider_id = ?"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(micros(pause))
        .bind(provider)
        .execute(db)
        .await?;
    Ok(())
}

/// Locks what the fleet shares about a provider until the transaction ends.
pub(crate) async fn lock(tx: &mut MySqlConnection, provider: &str) -> Result<(), DbError> {
    let sql = "SELECT provider_id FROM rag_provider_budgets WHERE provider_id = ? FOR UPDATE";
    for _ in 0..2 {
        let found: Option<String> = sqlx::query_scalar(sql)
            .bind(provider)
            .fetch_optional(&mut *tx)
            .await?;
        if found.is_some() {
            return Ok(());
        }
        create(tx, provider).await?;
    }
    Ok(())
}

async fn create(db: &mut MySqlConnection, provider: &str) -> Result<(), DbError> {
    sqlx::query("INSERT IGNORE INTO rag_provider_budgets (provider_id) VALUES (?)")
        .bind(provider)
        .execute(db)
        .await?;
    Ok(())
}

/// `until` is one of this module's expressions. `None`: there is no row.
async fn wait(db: &mut MySqlConnection, provider: &str, until: &str) -> Result<Option<Duration>, DbError> {
    let sql = format!(
        "SELECT CAST(GREATEST({until} - {NOW_US}, 0) AS SIGNED) FROM rag_provider_budgets WHERE provider_id = ?"
    );
    let us: Option<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(provider)
        .fetch_optional(db)
        .await?;
    Ok(us.map(|us| Duration::from_micros(us.unsigned_abs())))
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}
