//! Extends leases, learns of cancelled jobs, and renews this worker's row.

use std::sync::Arc;
use std::time::Duration;

use rag_mariadb::OutageLog;
use sqlx::MySqlConnection;
use tokio::time::{Instant, MissedTickBehavior};

use crate::claim::CancelReason;
use crate::id::ClaimToken;
use crate::lease::{self, ClaimStatus};

use super::Engine;
use super::link::Link;

/// Users who cancel wait no longer than this.
const LONGEST_BEAT: Duration = Duration::from_secs(1);
/// A process that ends does not wait longer than this for a database that does not answer.
const GOODBYE: Duration = Duration::from_secs(2);
const SHORTEST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
const REGISTER_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(engine: Arc<Engine>) {
    // Rather over a new connection than too late.
    let answers_within = (engine.config.lease / 3).clamp(SHORTEST_WAIT, LONGEST_WAIT);
    let mut link = engine.link("keep leases", answers_within);
    tokio::select! {
        () = serve(&engine, &mut link) => {}
        () = engine.closing.cancelled() => {}
    }
    let _ = tokio::time::timeout(GOODBYE, link.run(async |conn| deregister(&engine, conn).await)).await;
}

async fn serve(engine: &Engine, link: &mut Link) {
    let lease = engine.config.lease;
    let mut beat = tokio::time::interval((lease / 3).min(LONGEST_BEAT).max(Duration::from_millis(10)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut extended_at = Instant::now();
    let mut registered_at: Option<Instant> = None;
    let mut registering = OutageLog::new("register this worker");
    loop {
        beat.tick().await;
        if registered_at.is_none_or(|at| at.elapsed() >= REGISTER_EVERY) {
            match link.run(async |conn| register(engine, conn).await).await {
                Ok(()) => {
                    registering.succeeded();
                    registered_at = Some(Instant::now());
                }
                Err(error) => registering.failed(&error),
            }
        }
        give_up_what_ran_out(engine);
        let tokens = live_claims(engine);
        if tokens.is_empty() {
            link.idle();
            extended_at = Instant::now();
            continue;
        }
        let asked_at = Instant::now();
        let extend = extended_at.elapsed() >= lease / 3;
        match link
            .run(async |conn| extend_and_check(conn, &tokens, extend.then_some(lease)).await)
            .await
        {
            Ok(statuses) => {
                link.succeeded();
                if extend {
                    extended_at = asked_at;
                }
                for (token, status) in statuses {
                    apply(engine, token, status, extend.then_some(asked_at + lease));
                }
            }
            // The next beat is the next try.
            Err(error) => {
                link.failed(&error);
            }
        }
    }
}

fn live_claims(engine: &Engine) -> Vec<ClaimToken> {
    engine
        .held()
        .iter()
        .filter(|(_, held)| !held.lost)
        .map(|(token, _)| *token)
        .collect()
}

async fn extend_and_check(
    conn: &mut MySqlConnection,
    tokens: &[ClaimToken],
    extend: Option<Duration>,
) -> Result<Vec<(ClaimToken, ClaimStatus)>, sqlx::Error> {
    if let Some(lease) = extend {
        let mut tx = sqlx::Connection::begin(&mut *conn).await?;
        lease::extend(&mut tx, tokens, lease).await?;
        tx.commit().await?;
    }
    let statuses = lease::check_claims(conn, tokens).await?;
    Ok(statuses.into_iter().collect())
}

fn apply(engine: &Engine, token: ClaimToken, status: ClaimStatus, lease_until: Option<Instant>) {
    let mut held = engine.held();
    // Gone: acked meanwhile.
    let Some(held) = held.get_mut(&token) else { return };
    match status {
        ClaimStatus::Live | ClaimStatus::CancelRequested => {
            if let Some(lease_until) = lease_until {
                held.lease_until = lease_until;
            }
            if status == ClaimStatus::CancelRequested {
                held.claim.cancel(CancelReason::Requested);
            }
        }
        // Its handler has ended it, and may go on: there is no lease any more that could run out.
        ClaimStatus::Ended | ClaimStatus::Gone if held.claim.is_over() => {
            held.lease_until = Instant::now() + engine.config.lease;
        }
        ClaimStatus::Ended => {}
        ClaimStatus::Lost | ClaimStatus::Gone => {
            tracing::warn!(job.id = %token.job_id(), "a job was rescued from this worker: its lease had ended");
            held.lost = true;
            held.claim.cancel(CancelReason::LeaseLost);
        }
    }
}

/// The database has not answered for a whole lease, or this process was stopped: others may have the jobs by now.
fn give_up_what_ran_out(engine: &Engine) {
    let now = Instant::now();
    for held in engine.held().values_mut() {
        if held.lease_until <= now && !held.lost {
            tracing::warn!(job.id = %held.claim.job_id(), "could not extend a job's lease in time");
            held.lost = true;
            held.claim.cancel(CancelReason::LeaseLost);
        }
    }
}

async fn register(engine: &Engine, conn: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let kinds = serde_json::to_string(&engine.slots().capacities()).unwrap_or_default();
    sqlx::query(
        "INSERT INTO queue_workers (id, host, pid, kinds, started_at, seen_at) \
         VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE kinds = VALUES(kinds), seen_at = VALUES(seen_at)",
    )
    .bind(engine.worker)
    .bind(host_name())
    .bind(std::process::id())
    .bind(kinds)
    .execute(conn)
    .await?;
    Ok(())
}

async fn deregister(engine: &Engine, conn: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM queue_workers WHERE id = ?")
        .bind(engine.worker)
        .execute(conn)
        .await?;
    Ok(())
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map_or_else(
            || "unknown".to_owned(),
            |name| name.trim().chars().take(255).collect(),
        )
}
