//! Writes the ends of claims that need a decision, in batches, until they are written: an end is never dropped while the
//! process lives.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::error::is_transient;
use crate::id::ClaimToken;
use crate::outcome::Outcome;
use crate::settle::{self, End, Settled, Within};

use super::link::Link;
use super::{EndedHold, Engine};

/// What one statement may hold of outputs and error texts; it doubles as text, and packets have a limit.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// How often an end is tried again alone that the database refuses for another reason than an outage.
const MAX_REFUSALS: u32 = 5;

pub(super) async fn run(engine: Arc<Engine>, ends: mpsc::UnboundedReceiver<EndedHold>) {
    tokio::select! {
        () = serve(&engine, ends) => {}
        () = engine.closing.cancelled() => {}
    }
}

async fn serve(engine: &Engine, mut ends: mpsc::UnboundedReceiver<EndedHold>) {
    let mut link = Link::new(engine.pool.clone(), "acknowledge");
    let mut received = Vec::new();
    loop {
        if ends.recv_many(&mut received, engine.batch()).await == 0 {
            return;
        }
        for batch in batches(received.drain(..)) {
            settle_all(engine, &mut link, batch).await;
        }
    }
}

/// A job with keys goes alone: it may have to pass a key on, and a key is a lock.
fn batches(ends: impl Iterator<Item = EndedHold>) -> Vec<Vec<(ClaimToken, End)>> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for EndedHold { token, has_keys, end } in ends {
        if has_keys {
            batches.push(vec![(token, end)]);
            continue;
        }
        let size = end.text_bytes();
        if bytes + size > MAX_BATCH_BYTES && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push((token, end));
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// Settles a batch; what the database refuses is settled alone, and in the end, if it goes on refusing, as a failure that
/// says so.
async fn settle_all(engine: &Engine, link: &mut Link, batch: Vec<(ClaimToken, End)>) {
    let mut batches = vec![batch];
    let mut refusals = 0;
    while let Some(batch) = batches.pop() {
        let settled = link
            .run(async |conn| settle::settle_rows(conn, &batch, &engine.config, Within::Own).await)
            .await;
        match settled {
            Ok((settled, passed_on)) => {
                link.succeeded();
                report(engine, &batch, &settled);
                if passed_on {
                    engine.announce_all();
                }
            }
            Err(error) if is_transient(&error) || matches!(error, sqlx::Error::PoolClosed) => {
                tokio::time::sleep(link.failed(&error)).await;
                batches.push(batch);
            }
            Err(error) if batch.len() == 1 && refusals < MAX_REFUSALS => {
                refusals += 1;
                tokio::time::sleep(link.failed(&error)).await;
                batches.push(batch);
            }
            Err(error) if batch.len() == 1 => {
                refusals = 0;
                let (token, end) = &batch[0];
                tracing::error!(job.id = %token.job_id(), %error, "the end of a job cannot be stored; failing it");
                let refused = Outcome::Fail {
                    error: format!("its outcome could not be stored: {error}"),
                };
                if *end == End::Handler(refused.clone()) {
                    tokio::time::sleep(link.failed(&error)).await;
                }
                batches.push(vec![(*token, End::Handler(refused))]);
            }
            Err(_) => batches.extend(batch.into_iter().map(|one| vec![one])),
        }
    }
}

fn report(engine: &Engine, batch: &[(ClaimToken, End)], settled: &[Settled]) {
    let mut held = engine.held();
    for ((token, _), settled) in batch.iter().zip(settled) {
        let lost = held.remove(token).is_some_and(|held| held.lost);
        if *settled == Settled::Bounced && lost {
            tracing::warn!(job.id = %token.job_id(), claim = token.claim_no(), "the end of a lost claim was dropped");
        }
    }
    drop(held);
    engine.settled.notify_waiters();
    // The claimer stops when too many ends are unwritten.
    engine.work.notify_one();
}
