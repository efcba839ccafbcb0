//! The handle that a handler gets on its claim.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use sqlx::MySqlConnection;
use tokio_util::sync::CancellationToken;

use crate::ack::{self, Acked, End, PlainEnd, Within};
use crate::config::QueueConfig;
use crate::error::QueueError;
use crate::id::{ClaimToken, JobId};
use crate::lease;
use crate::outcome::Outcome;
use crate::take::ClaimedJob;

/// Why a handler should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Somebody cancelled the job.
    Requested,
    /// The claim is lost: another worker has the job, or will. Nothing can be written any more.
    LeaseLost,
    /// The process shuts down; after its grace the handler is dropped and the job released.
    Shutdown,
}

/// A handler's claim on its job. Cheap to clone.
#[derive(Clone)]
pub struct Claim {
    inner: Arc<Inner>,
}

struct Inner {
    kind: &'static str,
    taken: ClaimedJob,
    config: Arc<QueueConfig>,
    cancellation: CancellationToken,
    reason: OnceLock<CancelReason>,
    /// Failures since the job last made progress.
    attempts: AtomicU32,
    /// Its end has been written, or will be: the job may be gone.
    over: AtomicBool,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("kind", &self.inner.kind)
            .field("token", &self.token())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

impl Claim {
    pub(crate) fn new(kind: &'static str, taken: ClaimedJob, config: Arc<QueueConfig>) -> Self {
        let (cancellation, reason) = (CancellationToken::new(), OnceLock::new());
        let attempts = AtomicU32::new(taken.attempts);
        Self {
            inner: Arc::new(Inner {
                kind,
                taken,
                config,
                cancellation,
                reason,
                attempts,
                over: AtomicBool::new(false),
            }),
        }
    }

    pub fn job_id(&self) -> JobId {
        self.token().job_id()
    }

    pub fn token(&self) -> ClaimToken {
        self.inner.taken.token
    }

    pub fn kind(&self) -> &'static str {
        self.inner.kind
    }

    pub fn tenant(&self) -> Option<&str> {
        self.inner.taken.tenant.as_deref()
    }

    /// As given at the enqueue.
    pub fn trace_context(&self) -> Option<&str> {
        self.inner.taken.trace_context.as_deref()
    }

    /// From 1: one more than the failures since the job last made progress.
    pub fn attempt(&self) -> u32 {
        self.inner.attempts.load(Ordering::Relaxed) + 1
    }

    pub fn max_attempts(&self) -> u32 {
        self.inner.taken.max_attempts
    }

    /// A retry now would fail the job.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= self.max_attempts()
    }

    /// Fires when the handler should stop; [`reason`](Self::reason) says why. Then answer [`Outcome::Cancelled`].
    pub fn cancellation(&self) -> &CancellationToken {
        &self.inner.cancellation
    }

    /// Why [`cancellation`](Self::cancellation) has fired, if it has.
    pub fn reason(&self) -> Option<CancelReason> {
        self.inner.reason.get().copied()
    }

    /// Call it first in a transaction that writes on the job's behalf. Locks the job's row until the transaction is
    /// over and renews the lease; [`QueueError::ClaimLost`] if the claim does not own the job any more, and then
    /// nothing may be written.
    pub async fn fence(&self, conn: &mut MySqlConnection) -> Result<(), QueueError> {
        if lease::fence(conn, self.token(), self.lease()).await? {
            return Ok(());
        }
        Err(self.lost())
    }

    fn lost(&self) -> QueueError {
        tracing::warn!(job.id = %self.job_id(), "a write was refused: the claim is lost");
        self.cancel(CancelReason::LeaseLost);
        QueueError::ClaimLost(self.token())
    }

    /// As [`fence`](Self::fence), in a transaction that brings the job closer to its end, whatever becomes of its worker:
    /// leases that were lost before, and attempts that failed, are forgotten with its commit. A job that goes through many
    /// things may so outlive any number of workers and failures; one that fails at the same position does not get that far.
    ///
    /// From now on [`attempt`](Self::attempt) counts from one again, also if the transaction is rolled back.
    pub async fn progress(&self, conn: &mut MySqlConnection) -> Result<(), QueueError> {
        self.fence(&mut *conn).await?;
        lease::forget_failures(conn, self.job_id()).await?;
        self.inner.attempts.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Finishes the job as part of the caller's transaction: call it last. Whatever the handler answers after the
    /// commit, the job is done; if the transaction is rolled back, the handler's answer counts. Fences by itself.
    pub async fn complete(&self, conn: &mut MySqlConnection, output: &Value) -> Result<(), QueueError> {
        let end = End::Handler(Outcome::Done(output.clone()));
        self.set_over();
        if let Some(plain) = PlainEnd::of(self.token(), self.has_keys(), &end, &self.inner.config) {
            return if plain.write_if_live(conn).await? {
                Ok(())
            } else {
                Err(self.lost())
            };
        }
        self.fence(conn).await?;
        let end = [(self.token(), end)];
        let (acked, _) = ack::ack_rows(conn, &end, &self.inner.config, Within::Callers).await?;
        if acked == [Acked::Applied] {
            Ok(())
        } else {
            Err(QueueError::ClaimLost(self.token()))
        }
    }

    /// The first reason stands.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        let _ = self.inner.reason.set(reason);
        self.inner.cancellation.cancel();
    }

    /// The claim ends now. A job that is found gone from here on has not been taken from this claim.
    pub(crate) fn set_over(&self) {
        self.inner.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.inner.over.load(Ordering::Relaxed)
    }

    pub(crate) fn payload(&self) -> &str {
        &self.inner.taken.payload
    }

    pub(crate) fn has_keys(&self) -> bool {
        self.inner.taken.has_keys
    }

    fn lease(&self) -> Duration {
        self.inner.config.lease
    }
}
