//! An answer's body on its way to a caller who may not take it.
//!
//! The server asks for the next piece when the one before is on its way. So the caller is waited for from the moment a piece
//! is handed over, or the next one could be, until the server asks again. A body cannot end itself while it is not asked for
//! more, hence it lies here, where the connection's task can drop it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::rate::{LeastRate, Progress, Stalled};

/// Larger pieces of a body are handed over in parts: only what is taken whole shows that the caller moves, and a slow one is not
/// to be taken for one that is gone.
const PART_BYTES: usize = 16 * 1024;

/// The body of one answer, once there is one.
#[derive(Debug)]
pub(crate) struct Answer {
    state: Mutex<State>,
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
struct State {
    body: Option<Body>,
    /// What is left of a large piece.
    rest: Bytes,
    progress: Progress,
    /// Bytes of the latest piece.
    offered: u64,
    stalled: Option<Stalled>,
}

/// Since when the caller is waited for, if it is. Apart from the body, which may wake its reader while it is being read.
#[derive(Debug, Default)]
struct Waiting(Mutex<Option<Instant>>);

/// Wakes the server for the next piece, and notes that from now on it is the caller who is waited for.
struct NextPiece {
    waiting: Arc<Waiting>,
    server: Waker,
}

impl Waiting {
    fn begin(&self) {
        self.since().get_or_insert_with(Instant::now);
    }

    /// So long it was.
    fn end(&self) -> Duration {
        self.since()
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn until(&self, now: Instant) -> Duration {
        self.since()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for NextPiece {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.waiting.begin();
        self.server.wake_by_ref();
    }
}

impl Answer {
    pub(crate) fn new(least: LeastRate) -> Self {
        Self {
            state: Mutex::new(State {
                body: None,
                rest: Bytes::new(),
                progress: Progress::new(least),
                offered: 0,
                stalled: None,
            }),
            waiting: Arc::default(),
        }
    }

    pub(crate) fn begin(&self, body: Body) {
        self.state().body = Some(body);
    }

    /// The server will not ask for more.
    pub(crate) fn end(&self) {
        self.waiting.end();
        self.state().drop_body();
    }

    /// Whether the caller has left it untaken for too long; if so, its body is dropped.
    pub(crate) fn is_given_up(&self, now: Instant) -> bool {
        let mut state = self.state();
        let waited = self.waiting.until(now);
        if !waited.is_zero()
            && let Err(stalled) = state.progress.waiting(waited)
        {
            state.give_up(stalled);
        }
        state.stalled.is_some()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = self.state();
        let is_handed_over = state.rest.is_empty() && state.body.as_ref().is_none_or(HttpBody::is_end_stream);
        state.stalled.is_none() && is_handed_over
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let state = self.state();
        let rest = state.rest.len() as u64;
        let body = state.body.as_ref().map(HttpBody::size_hint);
        let mut hint = SizeHint::new();
        if let Some(upper) = body.as_ref().map_or(Some(0), SizeHint::upper) {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(body.map_or(0, |body| body.lower()).saturating_add(rest));
        hint
    }

    pub(crate) fn poll_frame(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = self.state();
        let (waited, bytes) = (self.waiting.end(), std::mem::take(&mut state.offered));
        if let Err(stalled) = state.progress.moved(waited, bytes) {
            state.give_up(stalled);
        }
        if let Some(stalled) = state.stalled {
            return Poll::Ready(Some(Err(axum::Error::new(stalled))));
        }
        if let Some(part) = state.next_part() {
            self.waiting.begin();
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let Some(body) = &mut state.body else {
            return Poll::Ready(None);
        };
        let waker = Waker::from(Arc::new(NextPiece {
            waiting: Arc::clone(&self.waiting),
            server: context.waker().clone(),
        }));
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(&waker));
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting.begin();
                let frame = match frame.into_data() {
                    Ok(piece) => {
                        state.rest = piece;
                        Frame::data(state.next_part().unwrap_or_default())
                    }
                    Err(trailers) => trailers,
                };
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => {
                state.body = None;
                Poll::Ready(end)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a body's code leaves nothing that could be half done here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_up(&mut self, stalled: Stalled) {
        if self.stalled.is_none() {
            metrics::counter!("rag_http_answers_given_up_total").increment(1);
            tracing::info!(reason = %stalled, "an answer was given up: its caller does not take it");
        }
        self.stalled = Some(stalled);
        self.drop_body();
    }

    fn drop_body(&mut self) {
        self.body = None;
        self.rest = Bytes::new();
    }

    fn next_part(&mut self) -> Option<Bytes> {
        let bytes = self.rest.len().min(PART_BYTES);
        self.offered = bytes as u64;
        (bytes > 0).then(|| self.rest.split_to(bytes))
    }
}
