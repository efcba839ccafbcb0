//! The bound: a loop that claims a batch and acknowledges it, in plain SQL over one connection, and does nothing else. It
//! writes the columns that the queue writes, with the same fence.

use std::time::{Duration, Instant};

use anyhow::Result;
use apalis_mariadb::testing::claim_query;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, Row};

use crate::database::Database;

/// Jobs, and the seconds that `loops` connections took together.
pub(crate) async fn run(
    database: &Database,
    loops: usize,
    batch: usize,
    time: Duration,
) -> Result<(f64, f64)> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..loops)
        .map(|_| tokio::spawn(claim_and_acknowledge(database.url.clone(), batch, time)))
        .collect();
    let mut jobs = 0.0;
    for task in tasks {
        jobs += task.await??;
    }
    Ok((jobs, started.elapsed().as_secs_f64()))
}

async fn claim_and_acknowledge(url: String, batch: usize, time: Duration) -> Result<f64> {
    let mut conn = MySqlConnection::connect(&url).await?;
    sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .execute(&mut conn)
        .await?;
    let claim = format!("START TRANSACTION; {}", claim_query("nothing", batch));
    let now = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
    let started = Instant::now();
    let mut jobs = 0.0;
    while started.elapsed() < time {
        let rows = sqlx::raw_sql(AssertSqlSafe(claim.clone()))
            .fetch_all(&mut conn)
            .await?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: Vec<u8> = row.try_get("id")?;
            let digits: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
            ids.push(format!("x'{}'", digits.concat()));
            jobs += 1.0;
        }
        if ids.is_empty() {
            sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
            break;
        }
        let ids = ids.join(", ");
        let take = format!(
            "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = 'running', order_us = {now} + 30000000, \
               worker_id = x'{:032x}', claimed_at = UTC_TIMESTAMP(6), \
               started_at = IF(claim_no = 0, UTC_TIMESTAMP(6), started_at), claim_no = claim_no + 1, snooze_reason = NULL \
             WHERE id IN ({ids}) AND state = 'ready'; COMMIT",
            std::process::id()
        );
        sqlx::raw_sql(AssertSqlSafe(take)).execute(&mut conn).await?;
        let acknowledge = format!(
            "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = 'done', order_us = {now}, output = NULL \
             WHERE id IN ({ids}) AND claim_no = 1 AND state = 'running'"
        );
        sqlx::raw_sql(AssertSqlSafe(acknowledge))
            .execute(&mut conn)
            .await?;
    }
    Ok(jobs)
}
