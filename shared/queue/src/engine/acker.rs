//! Writes the ends of claims, in batches, until they are written: an end is never dropped while the process lives.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::error::is_transient;
use crate::id::ClaimToken;
use crate::outcome::Outcome;
use crate::settle::{self, End, Settled, Within};

use super::link::Link;
use super::{EndedHold, Engine};

pub(super) async fn run(engine: Arc<Engine>, mut ends: mpsc::UnboundedReceiver<EndedHold>) {
    let mut link = Link::new(engine.pool.clone(), "acknowledge");
    let mut received = Vec::new();
    loop {
        received.clear();
        tokio::select! {
            biased;
            _ = ends.recv_many(&mut received, engine.config.batch.max(1)) => {}
            () = engine.closing.cancelled() => return,
        }
        let (keyed, plain): (Vec<_>, Vec<_>) = received.drain(..).partition(|ended| ended.has_keys);
        // A job with keys goes alone: it may have to pass a key on, and a key is a lock.
        let batches = keyed
            .into_iter()
            .map(|ended| vec![ended])
            .chain((!plain.is_empty()).then_some(plain));
        for batch in batches {
            let batch: Vec<(ClaimToken, End)> =
                batch.into_iter().map(|ended| (ended.token, ended.end)).collect();
            settle_all(&engine, &mut link, batch).await;
        }
    }
}

/// Settles a batch; what the database refuses for good is settled alone, and in the end as a failure that says so.
async fn settle_all(engine: &Engine, link: &mut Link, batch: Vec<(ClaimToken, End)>) {
    let mut batches = vec![batch];
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
            Err(error) if batch.len() == 1 => {
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
    engine.claimable.notify_one();
}
