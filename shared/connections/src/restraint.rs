//! What a process knows of the fleet's restraint at one provider: operations that back off, and an exhausted account.
//!
//! It is read from rows, at most every [`KNOWN_FOR`], and after each refusal that this process meets itself.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_db::blocks::{self, Block};
use rag_db::connections::Connection;
use rag_db::{DbError, backoffs};
use rag_providers::{Exhausted, Exhaustion, Operation, ProviderError};
use sqlx::{MySqlConnection, MySqlPool};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old what is known may be.
const KNOWN_FOR: Duration = Duration::from_millis(500);
/// The first pause of an operation that was refused without a hint, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));
/// An exhausted account is tried again after this, and then ever more slowly.
const FIRST_TRY_AFTER: Duration = Duration::from_secs(30);
const LONGEST_BETWEEN_TRIES: Duration = Duration::from_mins(15);

/// Of an exhausted account: requests that bring something to the provider wait, and the others go on.
const GROWTH: &str = "growth";
/// All requests wait.
const ALL: &str = "all";

#[derive(Debug)]
pub(crate) struct Restraint {
    pool: MySqlPool,
    provider_type: String,
    /// Of the connection's row that the client was opened from.
    version: DateTime<Utc>,
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// Per operation: until when it waits, and how often it was refused in a row.
    backoffs: HashMap<String, (Instant, u32)>,
    block: Option<(Block, Instant)>,
    /// A request of this process finds out whether the account is still exhausted.
    trying: bool,
    read_at: Option<Instant>,
}

/// Whether an operation may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leave {
    Now,
    In(Duration),
    Exhausted(Exhausted, Duration),
}

impl Restraint {
    pub(crate) fn new(pool: MySqlPool, row: &Connection) -> Self {
        Self {
            pool,
            provider_type: row.provider_type.clone(),
            version: row.updated_at,
            known: Mutex::default(),
        }
    }

    /// Of several who ask when a try of an exhausted account is due, one is let through.
    pub(crate) async fn ask(&self, operation: Operation) -> Result<Leave, DbError> {
        let mut guard = self.known.lock().await;
        let known = self.known(&mut guard).await?;
        if let Some((block, due_at)) = known.block.clone().filter(|(block, _)| waits(block, operation)) {
            let left = due_at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Ok(exhausted(&block, left));
            }
            let mut db = self.pool.acquire().await?;
            let is_ours = blocks::take_try(
                &mut db,
                &self.provider_type,
                FIRST_TRY_AFTER,
                LONGEST_BETWEEN_TRIES,
            )
            .await?;
            known.read_at = None;
            known.trying |= is_ours;
            if !is_ours {
                return Ok(exhausted(&block, KNOWN_FOR));
            }
            tracing::info!(
                provider = self.provider_type,
                operation = operation.as_str(),
                "one request tries whether the account is still exhausted"
            );
        }
        let until = known.backoffs.get(group(operation)).map(|(until, _)| *until);
        let left = until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        });
        Ok(if left.is_zero() {
            Leave::Now
        } else {
            Leave::In(left)
        })
    }

    /// Refused for its rate, without a hint. Answers for how long the fleet backs off from this operation.
    pub(crate) async fn limited(&self, operation: Operation) -> Result<Duration, DbError> {
        self.forget().await;
        let mut db = self.pool.acquire().await?;
        let jitter = rand::random_range(0.75..1.25);
        backoffs::refused(&mut db, &self.provider_type, group(operation), BACKOFF, jitter).await
    }

    /// Refused because the account is exhausted.
    pub(crate) async fn exhausted(&self, error: &ProviderError) -> Result<(), DbError> {
        let kind = error.exhausted.unwrap_or(Exhaustion::Quota);
        let scope = if error.operation.brings_something() {
            GROWTH
        } else {
            ALL
        };
        let state = (kind.as_str(), scope, error.message.as_ref());
        let mut db = self.pool.acquire().await?;
        blocks::set(&mut db, &self.provider_type, self.version, state, FIRST_TRY_AFTER).await?;
        let mut known = self.known.lock().await;
        *known = None;
        Ok(())
    }

    /// Carried out: what was refused before is taken now.
    pub(crate) async fn accepted(&self, operation: Operation) -> Result<(), DbError> {
        let (was_limited, was_try) = {
            let mut guard = self.known.lock().await;
            let Some(known) = guard.as_mut() else {
                return Ok(());
            };
            let entry = known.backoffs.get_mut(group(operation));
            let was_limited = entry.is_some_and(|(_, streak)| *streak > 0);
            let block = known.block.as_ref();
            let was_try = known.trying && block.is_some_and(|(block, _)| waits(block, operation));
            (was_limited, was_try)
        };
        if !was_limited && !was_try {
            return Ok(());
        }
        let mut db = self.pool.acquire().await?;
        if was_try {
            blocks::clear(&mut db, &self.provider_type).await?;
            tracing::info!(
                provider = self.provider_type,
                "the account is no longer exhausted"
            );
        }
        if was_limited {
            backoffs::accepted(&mut db, &self.provider_type, group(operation)).await?;
        }
        drop(db);
        self.forget().await;
        Ok(())
    }

    async fn forget(&self) {
        if let Some(known) = self.known.lock().await.as_mut() {
            known.read_at = None;
        }
    }

    /// Reads the rows anew if what is known is too old.
    async fn known<'a>(&self, guard: &'a mut Option<Known>) -> Result<&'a mut Known, DbError> {
        let known = guard.get_or_insert_default();
        if known.read_at.is_none_or(|at| at.elapsed() > KNOWN_FOR) {
            let mut db = self.pool.acquire().await?;
            let listed = backoffs::list(&mut db, &self.provider_type).await?;
            let block = blocks::find(&mut db, &self.provider_type).await?;
            let now = Instant::now();
            known.backoffs = listed
                .into_iter()
                .map(|backoff| (backoff.operation, (now + backoff.wait, backoff.streak)))
                .collect();
            known.block = block.map(|block| {
                let due_at = now + block.due_in().unwrap_or_default();
                (block, due_at)
            });
            known.trying &= known.block.is_some();
            known.read_at = Some(now);
        }
        Ok(known)
    }
}

/// The state as callers see it; `None`: a word that only another version knows.
pub(crate) fn state_of(block: &Block) -> Option<Exhausted> {
    let what = Exhaustion::ALL
        .into_iter()
        .find(|what| what.as_str() == block.kind)?;
    Some(Exhausted {
        what,
        reason: block.reason.clone(),
        since: block.since,
        next_try_at: block.next_try_at,
    })
}

/// The state, if it is there and its next try is not due yet.
pub(crate) async fn find_waiting(
    db: &mut MySqlConnection,
    provider_type: &str,
) -> Result<Option<(Exhausted, Duration)>, DbError> {
    let block = blocks::find(db, provider_type).await?;
    Ok(block.and_then(|block| Some((state_of(&block)?, block.due_in()?))))
}

fn exhausted(block: &Block, left: Duration) -> Leave {
    match state_of(block) {
        Some(state) => Leave::Exhausted(state, left),
        None => Leave::In(left),
    }
}

fn waits(block: &Block, operation: Operation) -> bool {
    // An admin who asks how a provider is wants to know it now.
    operation != Operation::Health && (block.scope == ALL || operation.brings_something())
}

/// What providers count together.
fn group(operation: Operation) -> &'static str {
    match operation {
        Operation::AttachFile | Operation::CreateFileBatch => "attach",
        other => other.as_str(),
    }
}
