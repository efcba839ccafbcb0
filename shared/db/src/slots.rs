//! `rag_provider_slots`: the open requests at a provider. A slot is taken for a time and released, or becomes free by
//! itself; nothing is locked meanwhile. Times are the database's, as in [`crate::budgets`].

use std::time::Duration;

use sqlx::MySqlConnection;

use crate::DbError;
use crate::budgets::{NOW_US, micros};

/// A slot that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub number: u32,
    pub holder: u64,
}

/// Makes the places of a provider, as far as they are not there.
pub async fn create(db: &mut MySqlConnection, provider: &str, places: u32) -> Result<(), DbError> {
    let mut insert = sqlx::QueryBuilder::new("INSERT IGNORE INTO rag_provider_slots (provider_id, slot) ");
    insert.push_values(0..places.max(1), |mut row, number| {
        row.push_bind(provider).push_bind(number);
    });
    insert.build().execute(db).await?;
    Ok(())
}

/// Takes one of the first `limit` places for this long; `None`: all are taken.
pub async fn take(
    db: &mut MySqlConnection,
    provider: &str,
    limit: u32,
    holder: u64,
    time: Duration,
) -> Result<Option<Slot>, DbError> {
    let sql = format!(
        "UPDATE rag_provider_slots SET slot = LAST_INSERT_ID(slot), holder = ?, until_us = {NOW_US} + ? \
         WHERE provider_id = ? AND slot < ? AND until_us <= {NOW_US} ORDER BY slot LIMIT 1"
    );
    let result = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(holder)
        .bind(micros(time))
        .bind(provider)
        .bind(limit)
        .execute(db)
        .await?;
    Ok((result.rows_affected() == 1).then(|| Slot {
        number: u32::try_from(result.last_insert_id()).unwrap_or(u32::MAX),
        holder,
    }))
}

/// Renews a slot for this long from now; `false`: it had become free, and another request may have it.
pub async fn keep(
    db: &mut MySqlConnection,
    provider: &str,
    slot: Slot,
    time: Duration,
) -> Result<bool, DbError> {
    let sql = format!(
        "UPDATE rag_provider_slots SET until_us = {NOW_US} + ? \
         WHERE provider_id = ? AND slot = ? AND holder = ? AND until_us > {NOW_US}"
    );
    let result = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(micros(time))
        .bind(provider)
        .bind(slot.number)
        .bind(slot.holder)
        .execute(db)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// Releases a slot, unless another request has taken it meanwhile.
pub async fn release(db: &mut MySqlConnection, provider: &str, slot: Slot) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_slots SET until_us = 0 WHERE provider_id = ? AND slot = ? AND holder = ?",
    )
    .bind(provider)
    .bind(slot.number)
    .bind(slot.holder)
    .execute(db)
    .await?;
    Ok(())
}
