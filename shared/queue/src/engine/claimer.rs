//! Claims jobs for lanes with free slots, never more than those.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;

use crate::id::{ClaimToken, JobId};
use crate::settle::End;
use crate::take;

use super::link::Link;
use super::{Engine, lanes::Order};

/// While more ends than so many batches wait to be written, nothing further is claimed: the database is behind.
const MAX_UNSETTLED_BATCHES: usize = 20;

/// How long a small claim waits to become a larger one. Where handlers are so quick that it matters, it pays; where they
/// are not, it does not matter.
const MOMENT: Duration = Duration::from_millis(1);

pub(super) async fn run(engine: Arc<Engine>) {
    let mut link = Link::new(engine.pool.clone(), "claim");
    let mut recover: Option<&'static str> = None;
    let mut has_waited = false;
    loop {
        let claimable = engine.claimable.notified();
        let order = if may_claim(&engine) {
            engine.lanes().next_order(engine.config.batch)
        } else {
            None
        };
        let Some(order) = order else {
            tokio::select! {
                () = claimable => continue,
                () = engine.closing.cancelled() => return,
            }
        };
        if order.is_small && !std::mem::replace(&mut has_waited, true) {
            tokio::time::sleep(MOMENT).await;
            continue;
        }
        has_waited = false;
        if let Some(kind) = recover {
            match hand_back_unknown(&engine, &mut link, kind).await {
                Ok(()) => recover = None,
                Err(error) => {
                    tokio::time::sleep(link.failed(&error)).await;
                    continue;
                }
            }
        }
        if let Err(error) = claim(&engine, &mut link, &order).await {
            // The claim may have taken effect all the same.
            recover = Some(order.kind);
            tokio::time::sleep(link.failed(&error)).await;
        }
    }
}

fn may_claim(engine: &Engine) -> bool {
    engine.takes_jobs() && engine.held().len() < engine.config.batch.max(1) * MAX_UNSETTLED_BATCHES
}

async fn claim(engine: &Engine, link: &mut Link, order: &Order) -> Result<(), sqlx::Error> {
    let asked_at = Instant::now();
    let lease = engine.config.lease;
    let taken = link
        .run(async |conn| take::take(conn, engine.worker, order.kind, order.limit, lease).await)
        .await?;
    link.succeeded();
    engine.lanes().record(order, taken.len());
    for job in taken {
        engine.deliver(order.kind, job, asked_at + lease);
    }
    Ok(())
}

/// After a claim whose answer was lost: jobs that are ours by the table and not by our books are handed back.
async fn hand_back_unknown(engine: &Engine, link: &mut Link, kind: &'static str) -> Result<(), sqlx::Error> {
    let select = format!(
        "SELECT id, claim_no, CAST(unique_key IS NOT NULL OR concurrency_key IS NOT NULL AS SIGNED) AS has_keys \
         FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
         WHERE state = 'running' AND kind = '{kind}' AND worker_id = x'{}'",
        engine.worker.as_uuid().simple()
    );
    let rows = link
        .run(async |conn| sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(conn).await)
        .await?;
    for row in rows {
        let token = ClaimToken::new(row.try_get::<JobId, _>("id")?, row.try_get("claim_no")?);
        if !engine.held().contains_key(&token) {
            engine.settle_later(token, row.try_get::<i64, _>("has_keys")? != 0, End::HandBack);
        }
    }
    Ok(())
}
