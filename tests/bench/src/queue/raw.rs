//! The bound: a loop that claims a batch and acknowledges it, in plain SQL over one connection, and does nothing else.

use std::time::{Duration, Instant};

use anyhow::Result;
use apalis_mariadb::testing::claim_query;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, Row};

use crate::database::Database;

/// Jobs a second by `loops` connections together.
pub(crate) async fn jobs_per_second(
    database: &Database,
    loops: usize,
    batch: usize,
    time: Duration,
) -> Result<f64> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..loops)
        .map(|_| tokio::spawn(claim_and_acknowledge(database.url.clone(), batch, time)))
        .collect();
    let mut jobs = 0;
    for task in tasks {
        jobs += task.await??;
    }
    #[expect(clippy::cast_precision_loss, reason = "no run has that many jobs")]
    Ok(jobs as f64 / started.elapsed().as_secs_f64())
}

async fn claim_and_acknowledge(url: String, batch: usize, time: Duration) -> Result<usize> {
    let mut conn = MySqlConnection::connect(&url).await?;
    sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .execute(&mut conn)
        .await?;
    let claim = format!("START TRANSACTION; {}", claim_query("nothing", batch));
    let started = Instant::now();
    let mut jobs = 0;
    while started.elapsed() < time {
        let rows = sqlx::raw_sql(AssertSqlSafe(claim.clone()))
            .fetch_all(&mut conn)
            .await?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: Vec<u8> = row.try_get("id")?;
            ids.push(format!(
                "x'{}'",
                id.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<Vec<_>>()
                    .concat()
            ));
        }
        if ids.is_empty() {
            sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
            break;
        }
        let ids = ids.join(", ");
        let now = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
        let take = format!(
            "UPDATE queue_jobs SET state = 'running', order_us = {now} + 30000000, claim_no = claim_no + 1, \
             claimed_at = UTC_TIMESTAMP(6) WHERE id IN ({ids}); COMMIT"
        );
        sqlx::raw_sql(AssertSqlSafe(take)).execute(&mut conn).await?;
        let acknowledge = format!(
            "UPDATE queue_jobs SET state = 'done', order_us = {now}, finished_at = UTC_TIMESTAMP(6) \
             WHERE id IN ({ids}) AND state = 'running'"
        );
        sqlx::raw_sql(AssertSqlSafe(acknowledge))
            .execute(&mut conn)
            .await?;
        jobs += rows.len();
    }
    Ok(jobs)
}
