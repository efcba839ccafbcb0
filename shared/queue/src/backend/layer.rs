//! The layer around every handler: runs it in a task of its own, and reports how it ended.
//!
//! It is outside of the user's own layers, so it sees whatever they make of a handler's answer.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::error::{AbortError, BoxDynError, RetryAfterError};
use apalis_core::task::Task;
use apalis_core::task::into_response::IntoResponse;
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::ack::End;
use crate::claim::{CancelReason, Claim};
use crate::engine::Engine;
use crate::error::QueueError;
use crate::outcome::{IntoOutcome, Outcome, error_chain};

/// A handler that has lost its claim can write nothing; it gets this long to notice.
const LOST_GRACE: Duration = Duration::from_secs(5);
/// A dropped handler is gone at its next await. One that does not get there holds its slot no longer than this.
const DROP_GRACE: Duration = Duration::from_secs(5);

/// A handler that met the queue's database in failure comes back after this.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// [`MariaDbStorage`](crate::MariaDbStorage)'s own layer.
#[derive(Clone, Debug)]
pub struct OutcomeLayer {
    timeout: Option<Duration>,
}

impl OutcomeLayer {
    pub(super) const fn new(timeout: Option<Duration>) -> Self {
        Self { timeout }
    }
}

impl<S> Layer<S> for OutcomeLayer {
    type Service = OutcomeService<S>;

    fn layer(&self, inner: S) -> OutcomeService<S> {
        OutcomeService {
            inner,
            timeout: self.timeout,
        }
    }
}

/// The service that [`OutcomeLayer`] makes.
#[derive(Clone, Debug)]
pub struct OutcomeService<S> {
    inner: S,
    timeout: Option<Duration>,
}

impl<S, J> Service<Task<J>> for OutcomeService<S>
where
    S: Service<Task<J>>,
    S::Future: Send + 'static,
    S::Response: IntoOutcome + Send + 'static,
    S::Error: Into<BoxDynError> + Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<J>) -> Self::Future {
        let claim = task.data().get_checked::<Claim>().cloned();
        let slot = task.data().get_checked::<Slot>().cloned();
        let handler = self.inner.call(task);
        let timeout = self.timeout;
        Box::pin(async move {
            let running = Running {
                claim: claim?,
                slot: slot?,
                reported: false,
            };
            let span = tracing::info_span!(
                "job",
                job.id = %running.claim.job_id(),
                job.kind = running.claim.kind(),
                attempt = running.claim.attempt(),
            );
            let handler = async move {
                match handler.await {
                    Ok(response) => response.into_outcome(),
                    Err(error) => outcome_of_error(&error.into()),
                }
            };
            let handler = AbortOnDropHandle::new(tokio::spawn(handler.instrument(span)));
            running.until_end(handler, timeout).await
        })
    }
}

impl IntoResponse for Outcome {
    type Output = Self;

    fn into_response(self) -> Result<Self, BoxDynError> {
        Ok(self)
    }
}

/// What goes with a running job beside its claim: the engine that wants to know its end, and its slot.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) engine: Arc<Engine>,
    pub(super) _permit: Arc<OwnedSemaphorePermit>,
}

/// A handler that runs. Whatever ends it, its end is reported; if apalis just drops it, the job is released.
struct Running {
    claim: Claim,
    slot: Slot,
    reported: bool,
}

impl Running {
    async fn until_end(
        mut self,
        mut handler: AbortOnDropHandle<Outcome>,
        timeout: Option<Duration>,
    ) -> Result<(), BoxDynError> {
        let end = tokio::select! {
            joined = &mut handler => End::Handler(joined.unwrap_or_else(outcome_of_panic)),
            after = run_out(timeout) => {
                drop_handler(handler).await;
                let error = format!("timed out after {after:?}");
                End::Handler(Outcome::Retry { error, after: None })
            }
            () = lost(&self.claim) => {
                drop_handler(handler).await;
                End::LeaseLost
            }
            () = self.slot.engine.out_of_grace().cancelled() => {
                drop_handler(handler).await;
                End::Release
            }
        };
        self.report(end)
    }

    fn report(&mut self, end: End) -> Result<(), BoxDynError> {
        let end = self.without_blame(end);
        self.reported = true;
        let answer = match &end {
            End::Handler(Outcome::Retry { error, .. } | Outcome::Fail { error }) => Err(error.clone().into()),
            _ => Ok(()),
        };
        self.slot.engine.finish(&self.claim, end);
        answer
    }

    /// A handler that stops, or fails, because the process shuts down has not failed; and one that stops because its
    /// claim is lost has not cancelled the job, even if nobody has taken it back yet.
    fn without_blame(&self, end: End) -> End {
        if !matches!(end, End::Handler(Outcome::Cancelled | Outcome::Retry { .. })) {
            return end;
        }
        match self.claim.reason() {
            Some(CancelReason::Shutdown) => End::Release,
            Some(CancelReason::LeaseLost) => End::LeaseLost,
            Some(CancelReason::Requested) | None => end,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reported {
            self.slot.engine.finish(&self.claim, End::Release);
        }
    }
}

async fn run_out(timeout: Option<Duration>) -> Duration {
    match timeout {
        Some(timeout) => {
            tokio::time::sleep(timeout).await;
            timeout
        }
        None => std::future::pending().await,
    }
}

/// The claim has been lost, and the handler has had time to notice.
async fn lost(claim: &Claim) {
    claim.cancellation().cancelled().await;
    if claim.reason() != Some(CancelReason::LeaseLost) {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LOST_GRACE).await;
}

/// Ends the handler's task, and waits for that: its successor must not run beside it.
async fn drop_handler(mut handler: AbortOnDropHandle<Outcome>) {
    handler.abort();
    if tokio::time::timeout(DROP_GRACE, &mut handler).await.is_err() {
        tracing::error!("a dropped job handler does not come to an await; its writes are fenced off");
    }
}

fn outcome_of_error(error: &BoxDynError) -> Outcome {
    let text = error_chain(error.as_ref());
    if is_database_trouble(error.as_ref()) {
        return Outcome::Snooze {
            after: DATABASE_PAUSE,
            reason: Some(text),
        };
    }
    if error.is::<AbortError>() {
        return Outcome::Fail { error: text };
    }
    let after = error
        .downcast_ref::<RetryAfterError>()
        .map(RetryAfterError::get_duration);
    Outcome::Retry { error: text, after }
}

/// The queue's own database was in the way of the handler. That is no failure of the job's.
fn is_database_trouble(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<QueueError>()
            .is_some_and(QueueError::is_transient)
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn outcome_of_panic(error: JoinError) -> Outcome {
    let error = match error.try_into_panic() {
        Ok(panic) => format!("panicked: {}", panic_text(panic.as_ref())),
        Err(error) => format!("the handler's task ended: {error}"),
    };
    Outcome::Retry { error, after: None }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}
