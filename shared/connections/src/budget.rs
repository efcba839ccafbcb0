//! The fleet's budget for requests to one connection, kept in one row.
//!
//! With a limit, the row hands out slots that are evenly spaced in time, so that no second, wherever it begins, holds more
//! of them than the limit. A process takes slots in blocks that grow while it uses them, so the row is written a few times
//! a second rather than once per request; a slot that is not used in its time is lost, never saved up for a burst.
//! With or without a limit, one process's 429 is written into rows, and all hold back: from everything, if the provider says
//! for how long, else from the operation that was refused, ever longer (`restraint`, which also knows exhausted accounts). How
//! many requests may be open at the same time is the matter of `slots`; whether the connection is still the same, of `revision`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rag_db::budgets::{self, Reservation};
use rag_db::connections::Connection;
use rag_db::{DbError, connections};
use rag_providers::{BudgetRefused, ErrorKind, Operation, Permit, ProviderError, Refusal, RequestBudget};
use sqlx::MySqlPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::restraint::{Leave, Restraint};
use crate::revision::RevisionCheck;
use crate::slots::FleetSlots;

/// A longer wait is a refusal, which frees the job's slot.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest time whose slots a process takes at once, and may waste.
const LONGEST_BLOCK: Duration = Duration::from_millis(250);
/// Requests reach the provider sooner or later than they were meant to; so much fewer are sent that this does not matter.
const MARGIN: f64 = 0.95;
/// A reserved time may be used this much too late.
const LATENESS: Duration = Duration::from_millis(20);
/// How long the end of the fleet's pause stays cached, where no limit makes each request ask for it anyway.
const PAUSE_CACHED_FOR: Duration = Duration::from_millis(500);
/// A shorter wish is none.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// A longer one is cut to this, and made again if it was meant.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

pub(crate) struct FleetBudget {
    pool: MySqlPool,
    provider_type: String,
    /// Between two requests of the fleet; `None`: no limit.
    interval: Option<Duration>,
    /// `None`: any number of requests may be open.
    slots: Option<FleetSlots>,
    /// The connection's row says that something is wrong with it.
    troubled: Arc<AtomicBool>,
    /// Of that row.
    version: DateTime<Utc>,
    restraint: Restraint,
    revision: RevisionCheck,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The next slot that is ours, and how many follow it.
    slot: Option<(Instant, u32)>,
    /// How many slots to take next time.
    block: u32,
    /// No limit: until when what we know of pauses holds.
    checked_at: Option<Instant>,
}

impl FleetBudget {
    /// For the client that is opened from `row`. `troubled`: the row has a `last_error`.
    pub(crate) fn new(pool: MySqlPool, row: &Connection, troubled: Arc<AtomicBool>) -> Self {
        let provider_type = row.provider_type.as_str();
        let limit = row.max_requests_per_second.filter(|limit| *limit > 0);
        let places = row.max_concurrent_requests.filter(|limit| *limit > 0);
        Self {
            slots: places.map(|places| FleetSlots::new(pool.clone(), provider_type, places)),
            restraint: Restraint::new(pool.clone(), row),
            revision: RevisionCheck::new(pool.clone(), row),
            version: row.updated_at,
            pool,
            provider_type: provider_type.to_owned(),
            troubled,
            interval: limit.map(|limit| Duration::from_secs_f64(1.0 / (f64::from(limit) * MARGIN))),
            state: Mutex::default(),
        }
    }

    /// Waits for a slot of ours.
    async fn slot(&self, interval: Duration) -> Result<Result<(), BudgetRefused>, DbError> {
        loop {
            let slot = match self.next_slot(interval).await? {
                Ok(slot) => slot,
                Err(refused) => return Ok(Err(refused)),
            };
            tokio::time::sleep_until(slot).await;
            if slot.elapsed() <= LATENESS {
                return Ok(Ok(()));
            }
            // Woken too late: the next slots are others'.
        }
    }

    async fn next_slot(&self, interval: Duration) -> Result<Result<Instant, BudgetRefused>, DbError> {
        let mut state = self.state.lock().await;
        let (mut slot, mut lost) = (state.slot.take(), false);
        while let Some((at, left)) = slot.filter(|(at, _)| at.elapsed() > LATENESS) {
            slot = left.checked_sub(1).map(|left| (at + interval, left));
            lost = true;
        }
        let (at, left) = match slot {
            Some(slot) => slot,
            None => match self.reserve(&mut state, interval, lost).await? {
                Ok(slot) => slot,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        state.slot = left.checked_sub(1).map(|left| (at + interval, left));
        Ok(Ok(at))
    }

    async fn reserve(
        &self,
        state: &mut State,
        interval: Duration,
        lost: bool,
    ) -> Result<Result<(Instant, u32), BudgetRefused>, DbError> {
        let most = u32::try_from(LONGEST_BLOCK.as_micros() / interval.as_micros().max(1)).unwrap_or(u32::MAX);
        let block = if lost { 1 } else { state.block.saturating_mul(2) };
        state.block = block.clamp(1, most.max(1));
        let mut db = self.pool.acquire().await?;
        let span = interval * state.block;
        Ok(
            match budgets::reserve(&mut db, &self.provider_type, span, LONGEST_WAIT).await? {
                Reservation::Granted { wait } => Ok((Instant::now() + wait, state.block - 1)),
                Reservation::Full { wait } => Err(BudgetRefused::rate(wait)),
            },
        )
    }

    /// Waits for the end of a short backoff; a long one, and an exhausted account, are refusals.
    async fn ask_leave(&self, operation: Operation) -> Result<(), BudgetRefused> {
        loop {
            match self.restraint.ask(operation).await {
                Ok(Leave::Now) => return Ok(()),
                Ok(Leave::In(wait)) if wait <= LONGEST_WAIT => tokio::time::sleep(wait).await,
                Ok(Leave::In(wait)) => return Err(BudgetRefused::rate(wait)),
                Ok(Leave::Exhausted(state, retry_after)) => {
                    return Err(BudgetRefused {
                        retry_after,
                        reason: Refusal::Exhausted(state),
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the fleet's restraint could not be asked for");
                    return Ok(());
                }
            }
        }
    }

    /// Without a limit: waits for the end of a pause that the provider asked for.
    async fn wait_for_pause(&self) -> Result<Result<(), BudgetRefused>, DbError> {
        let mut state = self.state.lock().await;
        if state
            .checked_at
            .is_some_and(|checked_at| checked_at.elapsed() < PAUSE_CACHED_FOR)
        {
            return Ok(Ok(()));
        }
        let mut db = self.pool.acquire().await?;
        let pause = budgets::remaining_pause(&mut db, &self.provider_type).await?;
        drop(db);
        if pause > LONGEST_WAIT {
            return Ok(Err(BudgetRefused::rate(pause)));
        }
        // Other requests wait for the lock meanwhile, which has the same effect.
        tokio::time::sleep(pause).await;
        state.checked_at = Some(Instant::now());
        Ok(Ok(()))
    }
}

impl FleetBudget {
    /// The provider asked for a pause: no process sends anything.
    async fn hold_back(&self, pause: Duration) -> Result<Duration, DbError> {
        let mut state = self.state.lock().await;
        state.slot = None;
        state.checked_at = None;
        let mut db = self.pool.acquire().await?;
        budgets::pause(&mut db, &self.provider_type, pause).await?;
        Ok(pause)
    }
}

#[async_trait]
impl RequestBudget for FleetBudget {
    async fn acquire(&self, operation: Operation) -> Result<Permit, BudgetRefused> {
        self.ask_leave(operation).await?;
        // The slot comes first: a reserved time must not pass while the request waits for a slot.
        let permit = match &self.slots {
            Some(slots) => Permit::holding(slots.take().await?),
            None => Permit::free(),
        };
        let result = match self.interval {
            Some(interval) => self.slot(interval).await,
            None => self.wait_for_pause().await,
        };
        result.unwrap_or_else(|error| {
            // No process can work without the database for long; requests that are under way may end.
            tracing::debug!(%error, "the request budget could not be asked");
            Ok(())
        })?;
        // Last, for the waits above may have been long.
        self.revision.check().await?;
        Ok(permit)
    }

    async fn rate_limited(&self, operation: Operation, retry_after: Option<Duration>) -> Option<Duration> {
        let hint = retry_after.filter(|pause| *pause >= SHORTEST_PAUSE);
        let written = match hint {
            Some(pause) => self.hold_back(pause.min(LONGEST_PAUSE)).await,
            None => self.restraint.limited(operation).await,
        };
        let pause = written.as_ref().ok().copied();
        tracing::info!(
            provider = self.provider_type,
            operation = operation.as_str(),
            ?hint,
            ?pause,
            "the provider's rate limit is reached: all hold back"
        );
        if let Err(error) = written {
            tracing::debug!(%error, "the pause could not be told to others");
        }
        pause
    }

    /// an error of a connection is in its row, whichever process met it.
    async fn refused(&self, error: &ProviderError) {
        tracing::warn!(provider = self.provider_type, %error, "the provider refuses the connection");
        self.troubled.store(true, Ordering::Relaxed);
        let written = async {
            let mut db = self.pool.acquire().await?;
            let text = error.to_string();
            connections::record_error_of(&mut db, &self.provider_type, self.version, &text).await?;
            drop(db);
            if error.kind == ErrorKind::QuotaExceeded {
                self.restraint.exhausted(error).await?;
            }
            Ok::<(), DbError>(())
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the refusal could not be written down");
        }
    }

    async fn accepted(&self, operation: Operation) {
        if let Err(error) = self.restraint.accepted(operation).await {
            tracing::debug!(%error, "the end of a restraint could not be written down");
        }
        if !self.troubled.swap(false, Ordering::Relaxed) {
            return;
        }
        let written = async {
            let mut db = self.pool.acquire().await?;
            connections::clear_error(&mut db, &self.provider_type).await
        };
        if let Err(error) = written.await {
            self.troubled.store(true, Ordering::Relaxed);
            tracing::debug!(%error, "the end of the trouble could not be written down");
        }
    }
}

impl fmt::Debug for FleetBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetBudget")
            .field("provider_type", &self.provider_type)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
