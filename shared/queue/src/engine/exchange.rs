//! Claims jobs for kinds with free slots, never more than those, and writes the plain ends on the way: both in one
//! transaction, so a batch costs two round trips and one commit.
//!
//! Two tasks do this, each over a connection of its own: while the server works and syncs its log for one, the other's jobs
//! run. They take turns at choosing what to do next. Beside an exchange that is under way a second one begins only when there
//! is a whole batch to do, so that quiet times do not split batches.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ack::{End, PlainEnd};
use crate::id::{ClaimToken, JobId};
use crate::take;

use super::link::Link;
use super::{Engine, lock, slots::Order};

/// How many tasks exchange.
pub(super) const TASKS: usize = 2;

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

/// What the tasks share.
#[derive(Default)]
pub(super) struct Exchanges {
    /// Whose turn it is to choose what to do next.
    turn: tokio::sync::Mutex<()>,
    under_way: AtomicUsize,
    arrived: Notify,
    /// The kind of a claim whose answer was lost.
    unknown: Mutex<Option<&'static str>>,
}

/// An exchange that is under way.
struct UnderWay<'a>(&'a Exchanges);

impl Exchanges {
    fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay(self)
    }

    fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// Only for the one whose turn it is: nobody else waits for this, and no exchange begins meanwhile.
    async fn all_arrived(&self) {
        while self.is_under_way() {
            self.arrived.notified().await;
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.arrived.notify_one();
    }
}

pub(super) async fn run(engine: Arc<Engine>) {
    tokio::select! {
        () = serve(&engine) => {}
        () = engine.closing.cancelled() => {}
    }
}

async fn serve(engine: &Engine) {
    // Nobody's lock may keep jobs from being claimed: an end that has to wait goes the long way.
    let mut link = engine.link("claim", ANSWERS_WITHIN).with_lock_wait(LOCK_WAIT);
    loop {
        let (ends, order, under_way) = match choose(engine, &mut link).await {
            Ok(chosen) => chosen,
            Err(error) => {
                tokio::time::sleep(link.failed(&error)).await;
                continue;
            }
        };
        let exchanged = exchange(engine, &mut link, &ends, order.as_ref()).await;
        if exchanged.is_err() {
            // It may have taken effect all the same. The long way finds out which ends are written.
            for end in ends {
                let (token, end) = end.into_end();
                engine.ack_later(token, false, end);
            }
            if let Some(order) = order {
                engine.slots().give_back(order.want.kind, order.want.limit);
                *lock(&engine.exchanges.unknown) = Some(order.want.kind);
                engine.work.notify_one();
            }
        }
        drop(under_way);
        if let Err(error) = exchanged {
            tokio::time::sleep(link.failed(&error)).await;
        }
    }
}

/// Waits until there is something to do, and takes it: ends to write, and slots to claim for.
async fn choose<'a>(
    engine: &'a Engine,
    link: &mut Link,
) -> Result<(Vec<PlainEnd>, Option<Order>, UnderWay<'a>), sqlx::Error> {
    let exchanges = &engine.exchanges;
    let _turn = exchanges.turn.lock().await;
    loop {
        while next_order(engine).is_none() && engine.plain_ends().is_empty() {
            if !exchanges.is_under_way() {
                link.idle();
            }
            engine.work.notified().await;
        }
        gather(engine).await;
        let unknown = *lock(&exchanges.unknown);
        if let Some(kind) = unknown
            && next_order(engine).is_some()
        {
            // What another exchange has claimed and not delivered yet is not unknown.
            exchanges.all_arrived().await;
            release_unknown(engine, link, kind).await?;
            *lock(&exchanges.unknown) = None;
        }
        let ends = take_ends(engine, link.last_packet_room());
        let order = take_order(engine);
        if order.is_some() || !ends.is_empty() {
            return Ok((ends, order, exchanges.begin()));
        }
    }
}

/// Waits while there is little to do: a moment, or as long as another exchange is under way.
async fn gather(engine: &Engine) {
    let much = async {
        while is_little_work(engine) {
            engine.much_work.notified().await;
        }
    };
    let in_time = async {
        engine.exchanges.all_arrived().await;
        tokio::time::sleep(MOMENT).await;
    };
    tokio::select! {
        () = much => {}
        () = in_time => {}
    }
}

fn is_little_work(engine: &Engine) -> bool {
    if let Some(order) = next_order(engine) {
        return order.is_small;
    }
    let held = engine.held().len();
    engine.plain_ends().len() * 2 < held.min(engine.batch())
}

fn next_order(engine: &Engine) -> Option<Order> {
    if !may_claim(engine) {
        return None;
    }
    engine.slots().next_order(engine.batch())
}

fn take_order(engine: &Engine) -> Option<Order> {
    if !may_claim(engine) {
        return None;
    }
    engine.slots().take_order(engine.batch())
}

fn may_claim(engine: &Engine) -> bool {
    engine.takes_jobs() && engine.held().len() < engine.batch() * MAX_UNACKED_BATCHES
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
