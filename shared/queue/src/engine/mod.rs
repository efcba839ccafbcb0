//! What a worker process does for all its kinds together: one task polls for work, two claim and write the plain ends,
//! one writes the others, one keeps leases. Knows nothing of apalis: jobs go out through a channel per kind, ends come
//! back through `finish`.

mod acker;
mod ahead;
mod exchange;
mod heartbeat;
mod link;
mod poller;
mod slots;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::MySqlPool;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ack::{End, PlainEnd};
use crate::claim::{CancelReason, Claim};
use crate::config::QueueConfig;
use crate::health::Health;
use crate::id::{ClaimToken, WorkerId};
use crate::take::ClaimedJob;

use link::Link;
use slots::Slots;

/// A worker that was restarted opens its slots again at once; only then is the engine really out of work.
const REOPENING: Duration = Duration::from_millis(500);

/// The claimed jobs of a kind.
pub(crate) type Jobs = mpsc::UnboundedReceiver<Claim>;

pub(crate) struct Engine {
    pool: MySqlPool,
    config: Arc<QueueConfig>,
    health: Arc<Health>,
    worker: WorkerId,
    slots: Mutex<Slots>,
    held: Mutex<HashMap<ClaimToken, HeldClaim>>,
    /// There may be something to claim, or an end to write.
    work: Notify,
    /// So much of it that waiting for more does not pay.
    much_work: Notify,
    exchanges: exchange::Exchanges,
    /// Ends were written.
    acked: Notify,
    plain_ends: Mutex<Vec<PlainEnd>>,
    ends: mpsc::UnboundedSender<EndedHold>,
    ends_out: Mutex<Option<mpsc::UnboundedReceiver<EndedHold>>>,
    /// An operator drains this worker.
    draining: AtomicBool,
    started: AtomicBool,
    /// No further claims.
    stopping: CancellationToken,
    /// The grace is over: running handlers are dropped, their jobs released.
    out_of_grace: CancellationToken,
    /// The engine's own tasks end.
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// A claim that this process has not acked yet.
struct HeldClaim {
    claim: Claim,
    /// Our leases are counted from before the statement that grants them, so this is never too late.
    lease_until: Instant,
    lost: bool,
}

/// A claim to ack.
struct EndedHold {
    token: ClaimToken,
    has_keys: bool,
    end: End,
}

impl Engine {
    pub(crate) fn new(pool: MySqlPool, config: QueueConfig, health: Arc<Health>) -> Arc<Self> {
        let (ends, ends_out) = mpsc::unbounded_channel();
        Arc::new(Self {
            pool,
            config: Arc::new(config),
            health,
            worker: WorkerId::generate(),
            slots: Mutex::new(Slots::default()),
            held: Mutex::new(HashMap::new()),
            work: Notify::new(),
            much_work: Notify::new(),
            exchanges: exchange::Exchanges::default(),
            acked: Notify::new(),
            plain_ends: Mutex::new(Vec::new()),
            ends,
            ends_out: Mutex::new(Some(ends_out)),
            draining: AtomicBool::new(false),
            started: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            out_of_grace: CancellationToken::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Starts serving a kind: up to `limit` jobs at a time, and `prefetch` claimed ahead. `None`: this engine has shut
    /// down, another is needed.
    pub(crate) fn open_slots(&self, kind: &'static str, limit: usize, prefetch: usize) -> Option<Jobs> {
        let jobs = self.slots().open(kind, limit, prefetch)?;
        self.work.notify_one();
        Some(jobs)
    }

    /// Stops serving a kind.
    pub(crate) fn close_slots(self: &Arc<Self>, kind: &'static str) {
        let none_left = self.slots().close(kind);
        if none_left && self.started.load(Ordering::Acquire) {
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(REOPENING).await;
                if engine.slots().retire() {
                    engine.flush().await;
                    engine.close().await;
                }
            });
        }
    }

    /// Starts the engine's tasks, if they do not run yet. Must be called in a tokio runtime.
    pub(crate) fn start(self: &Arc<Self>) {
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let ends = lock(&self.ends_out).take();
        if let Some(ends) = ends {
            self.tasks.spawn(acker::run(Arc::clone(self), ends));
        }
        for _ in 0..exchange::TASKS {
            self.tasks.spawn(exchange::run(Arc::clone(self)));
        }
        self.tasks.spawn(heartbeat::run(Arc::clone(self)));
        self.tasks.spawn(poller::run(Arc::clone(self)));
    }

    /// There may be a job of the kind.
    pub(crate) fn announce(&self, kind: &str) {
        self.slots().announce(kind);
        self.work.notify_one();
    }

    fn announce_all(&self) {
        self.slots().announce_all();
        self.work.notify_one();
    }

    /// A handler has ended: frees its slot, and acks the claim in the background. The claim stays held, its lease
    /// extended, until that is written.
    pub(crate) fn finish(&self, claim: &Claim, end: End) {
        claim.set_over();
        // An end after a lost lease is written row by row, so that one which has no effect is noticed.
        let plain = if claim.reason().is_none() {
            PlainEnd::of(claim.token(), claim.has_keys(), &end, &self.config)
        } else {
            None
        };
        match plain {
            Some(plain) => self.plain_ends().push(plain),
            None => self.ack_later(claim.token(), claim.has_keys(), end),
        }
        let enough = self.slots().free(claim.kind(), self.batch());
        self.work.notify_one();
        if enough {
            self.much_work.notify_one();
        }
    }

    fn ack_later(&self, token: ClaimToken, has_keys: bool, end: End) {
        // The receiver goes only after the last claim is acked.
        let _ = self.ends.send(EndedHold { token, has_keys, end });
    }

    /// The ends are written: their claims are not ours to keep any more.
    fn let_go(&self, ended: impl Iterator<Item = ClaimToken>) {
        let mut held = self.held();
        for token in ended {
            held.remove(&token);
        }
        drop(held);
        self.acked.notify_waiters();
    }

    /// Gives claimed jobs to their kind's slots, and releases those that nobody takes.
    fn deliver(&self, kind: &'static str, jobs: Vec<ClaimedJob>, lease_until: Instant) {
        let claims: Vec<Claim> = jobs
            .into_iter()
            .map(|job| Claim::new(kind, job, Arc::clone(&self.config)))
            .collect();
        let mut held = self.held();
        for claim in &claims {
            let claim = claim.clone();
            let lost = false;
            held.insert(
                claim.token(),
                HeldClaim {
                    claim,
                    lease_until,
                    lost,
                },
            );
        }
        drop(held);
        let mut slots = self.slots();
        for claim in claims {
            let (token, has_keys) = (claim.token(), claim.has_keys());
            if self.stopping.is_cancelled() {
                slots.give_back(kind, 1);
            } else if slots.hand_over(claim) {
                continue;
            }
            self.ack_later(token, has_keys, End::Release);
        }
    }

    /// Takes no further jobs, and tells running handlers that the process shuts down.
    pub(crate) fn stop_claiming(&self) {
        self.stopping.cancel();
        for held in self.held().values() {
            held.claim.cancel(CancelReason::Shutdown);
        }
    }

    /// Drops handlers that still run; their jobs are released.
    pub(crate) fn end_grace(&self) {
        self.out_of_grace.cancel();
    }

    pub(crate) const fn out_of_grace(&self) -> &CancellationToken {
        &self.out_of_grace
    }

    /// Waits until no claim is held: all handlers have ended, and all their ends are written.
    pub(crate) async fn flush(&self) {
        loop {
            let acked = self.acked.notified();
            if self.held().is_empty() {
                return;
            }
            acked.await;
        }
    }

    /// Waits until none of the kind's claims is held.
    pub(crate) async fn flush_kind(&self, kind: &'static str) {
        loop {
            let acked = self.acked.notified();
            if !self.held().values().any(|held| held.claim.kind() == kind) {
                return;
            }
            acked.await;
        }
    }

    /// Ends the engine's tasks.
    pub(crate) async fn close(&self) {
        self.stopping.cancel();
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.health.forget_tasks();
    }

    fn link(&self, task: &'static str, answers_within: Duration) -> Link {
        Link::new(self.pool.clone(), Arc::clone(&self.health), task, answers_within)
    }

    fn takes_jobs(&self) -> bool {
        !self.stopping.is_cancelled() && !self.draining.load(Ordering::Relaxed)
    }

    fn batch(&self) -> usize {
        self.config.batch.max(1)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        lock(&self.slots)
    }

    fn plain_ends(&self) -> MutexGuard<'_, Vec<PlainEnd>> {
        lock(&self.plain_ends)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<ClaimToken, HeldClaim>> {
        lock(&self.held)
    }
}

/// Nothing that panics runs under these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
