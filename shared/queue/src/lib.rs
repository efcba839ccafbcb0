//! A job queue on MariaDB 10.6+ (one primary), and a storage for apalis 1.0 on top of it.
//!
//! - **Enqueue in your own transaction.** A job exists if and only if the rows written beside it do.
//! - **Leases and fencing.** A claim lasts as long as its process extends it. A claim that is lost is lost for good:
//!   [`Claim::fence`] keeps a worker that was stopped and wakes up from writing anything.
//! - **Cheap at any size.** A claim walks one index in its own order and touches only the rows it takes, whatever waits
//!   behind them and whatever is finished.
//! - **Attempts count failures.** Snoozes, shutdowns and lost leases do not spend them. Backoff lives in the row.
//! - **Unique while active**, **one at a time per key**, priorities that starve nobody, delays, cancelling, pausing,
//!   draining, retention, statistics.
//!
//! # States
//!
//! ```text
//!               enqueue                    enqueue                     enqueue
//!               (delay)                       │                     (key is taken)
//!                  │                          ▼                          │
//!                  ▼          promote    ┌─────────┐      unblock        ▼
//!            ┌───────────┐ ────────────▶ │  ready  │ ◀────────────── ┌─────────┐
//!            │ scheduled │               └─────────┘                 │ blocked │
//!            └───────────┘    block        │     ▲                   └─────────┘
//!                  ▲  └──────────────────┐ │     │                        ▲
//!                  │                     │ │     │ release                │
//!                  │ reschedule    claim │ │     │ (shutdown, lost lease) │
//!                  │ (retry, snooze)     │ ▼     │                        │
//!                  │                     │ ┌─────────┐                    │
//!                  └─────────────────────┼─│ running │                    │
//!                                        │ └─────────┘                    │
//!                                        └────────┼───────────────────────┘
//!                          complete │ fail │ stop │
//!                                   ▼      ▼      ▼
//!                               ┌──────┬────────┬───────────┐   cancel: from scheduled, ready, blocked
//!                               │ done │ failed │ cancelled │   revive: failed, cancelled ─▶ ready (blocked)
//!                               └──────┴────────┴───────────┘
//! ```
//!
//! | state | who moves a job in | who takes it out |
//! |---|---|---|
//! | scheduled | enqueue with a delay; the end of a claim that is to be tried or polled again | maintenance, when it is due; an operator (now, or cancel) |
//! | ready | enqueue; maintenance; the end of its key's holder; its worker shutting down; maintenance, when its lease is lost | a worker that claims it; cancel |
//! | blocked | enqueue, or maintenance, when its concurrency key is taken | the end of the key's holder; cancel |
//! | running | a claim | the end of the handler; maintenance, when its lease is lost |
//! | done, failed, cancelled | the end of the handler; cancel; maintenance, after too many lost leases | maintenance deletes it after its [`Retention`]; an operator may retry failed and cancelled ones |
//!
//! # Order
//!
//! First in, first out within a priority; one point of priority is worth one minute of waiting, so low priorities are
//! overtaken but never starved. A delayed job queues from the time it is due. A job that has run before (retried,
//! snoozed, released) keeps its position in the queue: what was begun is finished first.
//!
//! While a process works off a backlog at full speed it continues from the position where its last claim
//! ended, and starts from the beginning again after 50 ms, or fifty times as long as a claim from there takes. A job that
//! comes in with a better position is overtaken for that long at most.
//!
//! # Claims, and what they may write
//!
//! Every claim has a [`ClaimToken`]. A handler that writes rows on its job's behalf opens a transaction, calls
//! [`Claim::fence`] first, and writes: the fence locks the job's row, fails unless this claim still owns the job, and
//! renews its lease. The lock keeps the job from being rescued until the transaction is over. A claim whose lease
//! has ended is dead even if nobody has taken the job yet, so "is not live" is final ([`Queue::is_live`]).
//! [`Claim::complete`] ends the job in the same transaction as the handler's last rows.
//!
//! A process that is stopped in the middle of a fenced transaction keeps the lock, and nobody can rescue the job, until
//! the server ends the transaction: give the connections of your pool an `idle_transaction_timeout` of a few seconds, as
//! the queue's own have.
//!
//! # Enqueueing beside a job that ends
//!
//! Enqueue last in your transaction; complete last in the handler's. With a unique key there is then no gap: if the
//! active job is being completed in a transaction, the enqueue waits for its end, and finds either a job that still
//! runs or none. What a job has read already, it may not read again: if both transactions lock the same row of yours
//! first, the handler sees your rows before it completes, or you see the job gone and enqueue a new one.
//!
//! Use READ COMMITTED ([`Queue::begin`] does): a REPEATABLE READ transaction on a server with
//! `innodb_snapshot_isolation` can be refused (error 1020) once it has read.
//!
//! # What is deliberately not here
//!
//! No cron, no workflows, no dead letter queue (failed jobs stay, and can be retried), no results bus, no schema
//! management: the tables come with the application's migrations, from this crate's `migrations/` folder.

mod ack;
mod backend;
mod claim;
mod config;
mod engine;
mod enqueue;
mod error;
mod health;
mod id;
mod job;
pub mod key_holder;
mod keys;
mod lease;
mod maintenance;
/// A test of the state machine that needs the crate's insides.
#[cfg(test)]
#[path = "../tests/model/mod.rs"]
mod model;
mod new_job;
mod operate;
mod outcome;
mod position;
mod queue;
mod read;
mod row;
mod sql;
mod state;
mod stats;
mod take;

pub use backend::{MariaDbStorage, OutcomeLayer, OutcomeService, StorageConfig, WorkerSet, WorkerSetError};
pub use claim::{CancelReason, Claim};
pub use config::{QueueConfig, Retention, Wait};
pub use error::QueueError;
pub use health::{Failures, QueueFailure};
pub use id::{ClaimToken, JobId, WorkerId};
pub use job::{EndedClaim, Ending, Job, UnreadableJob};
pub use new_job::{Enqueued, JobKind, NewJob};
pub use operate::{Cancelled, Worker};
pub use outcome::{IntoOutcome, Outcome};
pub use queue::Queue;
/// Why a statement failed; in [`QueueFailure`] and [`Failures`].
pub use rag_mariadb::Cause;
pub use read::{InvalidCursor, JobFilter, JobPage, Page, PageCursor};
pub use state::{Move, State, UnknownState};
pub use stats::{KindStats, Stats};

/// For tests of this crate and its benchmarks only; no part of the API.
#[doc(hidden)]
pub mod testing {
    /// The query that picks jobs to claim.
    pub fn claim_query(kind: &str, limit: usize) -> String {
        claim_query_from(kind, limit, None)
    }

    /// The same, continuing from a position.
    pub fn claim_query_from(kind: &str, limit: usize, floor: Option<i64>) -> String {
        crate::take::candidates(kind, limit, floor)
    }
}
