//! Claims jobs for kinds with free slots, never more than those, and writes the plain ends on the way: both in one
//! transaction over one connection, so a batch costs two round trips and one commit.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;

use crate::ack::{End, PlainEnd};
use crate::id::{ClaimToken, JobId};
use crate::take;

use super::link::Link;
use super::{Engine, slots::Order};

/// While more ends than so many batches wait to be written, nothing further is claimed: the database is behind.
const MAX_UNACKED_BATCHES: usize = 20;

/// How long little work waits to become more. Where handlers are so quick that it matters, it pays; where they are not,
/// it does not matter.
const MOMENT: Duration = Duration::from_millis(1);

/// A claim is a matter of milliseconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// What the ends of one statement may take, whatever the server allows; bytes.
const MAX_ENDS_BYTES: usize = 1024 * 1024;

pub(super) async fn run(engine: Arc<Engine>) {
    tokio::select! {
        () = serve(&engine) => {}
        () = engine.closing.cancelled() => {}
    }
}

async fn serve(engine: &Engine) {
    // Nobody's lock may keep jobs from being claimed: an end that has to wait goes the long way.
    let mut link = engine.link("claim", ANSWERS_WITHIN).with_lock_wait(LOCK_WAIT);
    let mut recover: Option<&'static str> = None;
    loop {
        if next_order(engine).is_none() && engine.plain_ends().is_empty() {
            link.idle();
            engine.work.notified().await;
            continue;
        }
        gather(engine).await;
        let order = next_order(engine);
        if let (Some(kind), Some(_)) = (recover, &order) {
            match release_unknown(engine, &mut link, kind).await {
                Ok(()) => recover = None,
                Err(error) => {
                    tokio::time::sleep(link.failed(&error)).await;
                    continue;
                }
            }
        }
        let ends = take_ends(engine, link.last_packet_room());
        if let Err(error) = exchange(engine, &mut link, &ends, order.as_ref()).await {
            // It may have taken effect all the same. The long way finds out which ends are written.
            for end in ends {
                let (token, end) = end.into_end();
                engine.ack_later(token, false, end);
            }
            recover = order.map(|order| order.want.kind).or(recover);
            tokio::time::sleep(link.failed(&error)).await;
        }
    }
}

/// Waits a moment while there is little to do.
async fn gather(engine: &Engine) {
    let much = async {
        while is_little_work(engine) {
            engine.much_work.notified().await;
        }
    };
    let _ = tokio::time::timeout(MOMENT, much).await;
}

fn is_little_work(engine: &Engine) -> bool {
    if let Some(order) = next_order(engine) {
        return order.is_small;
    }
    let held = engine.held().len();
    engine.plain_ends().len() * 2 < held.min(engine.batch())
}

fn next_order(engine: &Engine) -> Option<Order> {
    if !engine.takes_jobs() || engine.held().len() >= engine.batch() * MAX_UNACKED_BATCHES {
        return None;
    }
    engine.slots().next_order(engine.batch())
}

/// As many as a batch and a packet hold; half a packet is left for the claim.
fn take_ends(engine: &Engine, packet_room: usize) -> Vec<PlainEnd> {
    let room = MAX_ENDS_BYTES.min(packet_room / 2);
    let mut ends = engine.plain_ends();
    let mut bytes = 0;
    let fitting = ends.iter().take(engine.batch()).take_while(|end| {
        bytes += end.statement_bytes();
        bytes <= room
    });
    // One that fits nowhere goes the long way, once it has been refused here.
    let first = fitting.count().max(1).min(ends.len());
    ends.drain(..first).collect()
}

async fn exchange(
    engine: &Engine,
    link: &mut Link,
    ends: &[PlainEnd],
    order: Option<&Order>,
) -> Result<(), sqlx::Error> {
    let Some(order) = order else {
        if !ends.is_empty() {
            link.run(async |conn| take::ack(conn, ends).await).await?;
            link.succeeded();
            engine.let_go(ends.iter().map(PlainEnd::token));
        }
        return Ok(());
    };
    let (asked_at, lease) = (Instant::now(), engine.config.lease);
    let got = link
        .run(async |conn| take::ack_and_claim(conn, ends, order.want, engine.worker, lease).await)
        .await?;
    link.succeeded();
    engine.let_go(ends.iter().map(PlainEnd::token));
    engine.slots().record(order, &got);
    engine.deliver(order.want.kind, got.taken, asked_at + lease);
    Ok(())
}

/// After a claim whose answer was lost: releases jobs that the table says are ours and this process
/// does not know of.
async fn release_unknown(engine: &Engine, link: &mut Link, kind: &'static str) -> Result<(), sqlx::Error> {
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
            engine.ack_later(token, row.try_get::<i64, _>("has_keys")? != 0, End::Release);
        }
    }
    Ok(())
}
