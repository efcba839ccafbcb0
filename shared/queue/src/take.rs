//! Claiming, and ending claims on the way: the statements. Two round trips and one commit a batch, each touching only the
//! rows that are taken or ended.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, MySqlConnection, Row};

use crate::ack::{PlainEnd, id_list, write_plain_ends};
use crate::id::{ClaimToken, JobId, WorkerId};
use crate::sql::{NOTE_NOW, NOTED_NOW, micros};
use crate::state::Move;

/// A job that was claimed just now.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedJob {
    pub(crate) token: ClaimToken,
    pub(crate) payload: String,
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    pub(crate) tenant: Option<String>,
    pub(crate) trace_context: Option<String>,
    pub(crate) has_keys: bool,
}

/// What to claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimRequest {
    pub(crate) kind: &'static str,
    pub(crate) limit: usize,
    /// The position in the queue to begin at. The latest claims leave index entries behind until the server purges them, and
    /// walking over thousands of those costs more than the claim itself.
    pub(crate) floor: Option<i64>,
}

/// The jobs that a [`ClaimRequest`] got.
#[derive(Debug, Default)]
pub(crate) struct ClaimedBatch {
    pub(crate) taken: Vec<ClaimedJob>,
    /// The queue position of the last of them.
    pub(crate) position: Option<i64>,
    /// How long the server took to find them.
    pub(crate) found_in: Duration,
}

/// The claim's query: equality on (state, kind) and the index's own order, so it neither sorts nor reads past `limit`
/// rows.
pub(crate) fn candidates(kind: &str, limit: usize, floor: Option<i64>) -> String {
    let from_floor = floor.map_or_else(String::new, |floor| format!("AND order_us >= {floor} "));
    format!(
        "SELECT id, claim_no, payload, attempts, max_attempts, tenant, trace_context, order_us, \
           CAST(unique_key IS NOT NULL OR concurrency_key IS NOT NULL AS SIGNED) AS has_keys \
         FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) WHERE {} AND kind = '{kind}' {from_floor}\
         ORDER BY order_us, id LIMIT {limit} FOR UPDATE SKIP LOCKED",
        Move::Claim.condition().replace(" IN ('ready')", " = 'ready'"),
    )
}

/// Writes ends without claiming anything. The connection must be in no transaction and at READ COMMITTED; after an error
/// it must not be used again, and it is unknown which ends are written.
pub(crate) async fn ack(conn: &mut MySqlConnection, ends: &[PlainEnd]) -> Result<(), sqlx::Error> {
    let statements = format!("START TRANSACTION; {NOTE_NOW}{}COMMIT", write_plain_ends(ends));
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(conn).await?;
    Ok(())
}

/// Writes ends and claims up to `limit` jobs of a kind, both or neither. As for [`ack`].
pub(crate) async fn ack_and_claim(
    conn: &mut MySqlConnection,
    ends: &[PlainEnd],
    want: ClaimRequest,
    worker: WorkerId,
    lease: Duration,
) -> Result<ClaimedBatch, sqlx::Error> {
    let select = format!(
        "START TRANSACTION; {NOTE_NOW}{}{}",
        write_plain_ends(ends),
        candidates(want.kind, want.limit, want.floor)
    );
    let asked_at = Instant::now();
    let rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(&mut *conn).await?;
    let mut got = ClaimedBatch {
        taken: Vec::with_capacity(rows.len()),
        position: None,
        found_in: asked_at.elapsed(),
    };
    for row in &rows {
        let id: JobId = row.try_get("id")?;
        got.taken.push(ClaimedJob {
            token: ClaimToken::new(id, row.try_get::<u32, _>("claim_no")? + 1),
            payload: row.try_get("payload")?,
            attempts: row.try_get("attempts")?,
            max_attempts: row.try_get("max_attempts")?,
            tenant: row.try_get("tenant")?,
            trace_context: row.try_get("trace_context")?,
            has_keys: row.try_get::<i64, _>("has_keys")? != 0,
        });
    }
    if let Some(last) = rows.last() {
        got.position = Some(last.try_get("order_us")?);
    }
    let mut rest = String::new();
    if !got.taken.is_empty() {
        rest = format!(
            "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = '{running}', order_us = {now} + {lease}, \
               worker_id = x'{worker}', claimed_at = UTC_TIMESTAMP(6), \
               started_at = IF(claim_no = 0, UTC_TIMESTAMP(6), started_at), claim_no = claim_no + 1, snooze_reason = NULL \
             WHERE id IN ({ids}) AND {from}; ",
            running = Move::Claim.to(),
            now = NOTED_NOW,
            lease = micros(lease),
            worker = worker.as_uuid().simple(),
            ids = id_list(got.taken.iter().map(|job| job.token.job_id())),
            from = Move::Claim.condition(),
        );
    }
    rest.push_str("COMMIT");
    sqlx::raw_sql(AssertSqlSafe(rest)).execute(conn).await?;
    Ok(got)
}
