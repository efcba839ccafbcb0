//! Leases: is one live, fence and extend.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::ack::{HELD_COLUMNS, Held, id_list};
use crate::id::{ClaimToken, JobId};
use crate::sql::{micros, now_us};

const IS_LIVE: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM queue_jobs FORCE INDEX (PRIMARY) WHERE id = ? AND claim_no = ? AND state = 'running' AND order_us > ",
    now_us!(),
    ")"
);

/// Renewing is what takes the row's lock, and gives the transaction a whole lease to end in: while it has the lock, the
/// heartbeat cannot extend the lease, and nobody can rescue the job.
///
/// By the primary key, here and in every other write: the optimizer likes the order index as well, and a row that another
/// transaction of the same job moves within that index is missed by whoever waited for its lock.
const FENCE: &str = concat!(
    "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET order_us = ",
    now_us!(),
    " + ? WHERE id = ? AND claim_no = ? AND state = 'running' AND order_us > ",
    now_us!()
);

pub(crate) async fn is_live(conn: &mut MySqlConnection, token: ClaimToken) -> Result<bool, sqlx::Error> {
    let live: i64 = sqlx::query_scalar(IS_LIVE)
        .bind(token.job_id())
        .bind(token.claim_no())
        .fetch_one(conn)
        .await?;
    Ok(live != 0)
}

/// Locks the job's row if the claim is live. Answers whether it is.
pub(crate) async fn fence(
    conn: &mut MySqlConnection,
    token: ClaimToken,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    let fenced = sqlx::query(FENCE)
        .bind(micros(lease))
        .bind(token.job_id())
        .bind(token.claim_no())
        .execute(conn)
        .await?
        .rows_affected();
    Ok(fenced == 1)
}

/// The caller has fenced: the row is locked, and its own. What went wrong before this progress no longer counts.
pub(crate) async fn forget_failures(conn: &mut MySqlConnection, id: JobId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET lease_losses = 0, attempts = 0 \
         WHERE id = ? AND (lease_losses > 0 OR attempts > 0)",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// What a heartbeat learns of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimStatus {
    Live,
    CancelRequested,
    /// Ended by its handler or its acknowledgement; not lost.
    Ended,
    /// There is no such job any more: ended, if the claim is over, and lost, if not.
    Gone,
    Lost,
}

/// Reads the status of claims, without locks.
pub(crate) async fn check_claims(
    conn: &mut MySqlConnection,
    tokens: &[ClaimToken],
) -> Result<HashMap<ClaimToken, ClaimStatus>, sqlx::Error> {
    let ids = id_list(tokens.iter().map(ClaimToken::job_id));
    let select = format!("SELECT {HELD_COLUMNS} FROM queue_jobs WHERE id IN ({ids})");
    let rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(conn).await?;
    let mut rows_by_id: HashMap<JobId, Held> = HashMap::new();
    for row in &rows {
        let held = Held::from_row(row)?;
        rows_by_id.insert(held.id, held);
    }
    Ok(tokens
        .iter()
        .map(|token| (*token, status(*token, rows_by_id.get(&token.job_id()))))
        .collect())
}

fn status(token: ClaimToken, held: Option<&Held>) -> ClaimStatus {
    match held {
        Some(held) if held.is_running_under(token) && held.live => {
            if held.cancel_requested {
                ClaimStatus::CancelRequested
            } else {
                ClaimStatus::Live
            }
        }
        Some(held)
            if held.token() == token
                && held
                    .state
                    .parse::<crate::state::State>()
                    .is_ok_and(crate::state::State::is_finished) =>
        {
            ClaimStatus::Ended
        }
        Some(_) => ClaimStatus::Lost,
        None => ClaimStatus::Gone,
    }
}

/// Extends live leases, in one statement. Rows that a handler's transaction has locked are left out: its fence has
/// renewed them, and waiting for it would let the others run out.
pub(crate) async fn extend(
    conn: &mut MySqlConnection,
    tokens: &[ClaimToken],
    lease: Duration,
) -> Result<(), sqlx::Error> {
    let ids = id_list(tokens.iter().map(ClaimToken::job_id));
    let now = now_us!();
    let select = format!(
        "SELECT {HELD_COLUMNS} FROM queue_jobs FORCE INDEX (PRIMARY) WHERE id IN ({ids}) AND state = 'running' AND order_us > {now} \
         ORDER BY id FOR UPDATE SKIP LOCKED"
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(&mut *conn).await?;
    let rows: Vec<Held> = rows.iter().map(Held::from_row).collect::<Result<_, _>>()?;
    let ours = rows
        .iter()
        .filter(|held| tokens.contains(&held.token()))
        .map(|held| held.id);
    let ids = id_list(ours);
    if ids.is_empty() {
        return Ok(());
    }
    let update = format!(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET order_us = {now} + {} WHERE id IN ({ids})",
        micros(lease)
    );
    sqlx::raw_sql(AssertSqlSafe(update)).execute(conn).await?;
    Ok(())
}
