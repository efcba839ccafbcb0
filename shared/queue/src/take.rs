//! Claiming: the statements. Two round trips a batch, each touching only the rows that are taken.

use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlConnection, Row};

use crate::id::{ClaimToken, JobId, WorkerId};
use crate::settle::id_list;
use crate::sql::{micros, now_us};
use crate::state::Move;

/// A job that was claimed just now.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) token: ClaimToken,
    pub(crate) payload: String,
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    pub(crate) tenant: Option<String>,
    pub(crate) trace_context: Option<String>,
    pub(crate) has_keys: bool,
}

/// The claim's query: equality on (state, kind) and the index's own order, so it neither sorts nor reads past `limit`
/// rows.
pub(crate) fn candidates(kind: &str, limit: usize) -> String {
    format!(
        "SELECT id, claim_no, payload, attempts, max_attempts, tenant, trace_context, \
           CAST(unique_key IS NOT NULL OR concurrency_key IS NOT NULL AS SIGNED) AS has_keys \
         FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) WHERE {} AND kind = '{kind}' \
         ORDER BY order_us, id LIMIT {limit} FOR UPDATE SKIP LOCKED",
        Move::Claim.condition().replace(" IN ('ready')", " = 'ready'"),
    )
}

/// Claims up to `limit` jobs of a kind. The connection must be in no transaction and at READ COMMITTED; after an error
/// it must not be used again.
pub(crate) async fn take(
    conn: &mut MySqlConnection,
    worker: WorkerId,
    kind: &str,
    limit: usize,
    lease: Duration,
) -> Result<Vec<Taken>, sqlx::Error> {
    let select = format!("START TRANSACTION; {}", candidates(kind, limit));
    let rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(&mut *conn).await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: JobId = row.try_get("id")?;
        taken.push(Taken {
            token: ClaimToken::new(id, row.try_get::<u32, _>("claim_no")? + 1),
            payload: row.try_get("payload")?,
            attempts: row.try_get("attempts")?,
            max_attempts: row.try_get("max_attempts")?,
            tenant: row.try_get("tenant")?,
            trace_context: row.try_get("trace_context")?,
            has_keys: row.try_get::<i64, _>("has_keys")? != 0,
        });
    }
    let mut rest = String::new();
    if !taken.is_empty() {
        rest = format!(
            "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = '{running}', order_us = {now} + {lease}, claim_no = claim_no + 1, \
               worker_id = x'{worker}', claimed_at = UTC_TIMESTAMP(6), \
               started_at = COALESCE(started_at, UTC_TIMESTAMP(6)), snooze_reason = NULL \
             WHERE id IN ({ids}) AND {from}; ",
            running = Move::Claim.to(),
            now = now_us!(),
            lease = micros(lease),
            worker = worker.as_uuid().simple(),
            ids = id_list(taken.iter().map(|job| job.token.job_id())),
            from = Move::Claim.condition(),
        );
    }
    rest.push_str("COMMIT");
    sqlx::raw_sql(AssertSqlSafe(rest)).execute(conn).await?;
    Ok(taken)
}
