//! Handles requests that are refused before their body was read. hyper closes such a connection after the answer without
//! saying so, and the client's next request on it fails. Here the rest of a small body is read and dropped, and the
//! connection stays open. If the body is large or of unknown length, the answer says `Connection: close`; the rest is still
//! read for a while, so that the client sees the answer and not a reset.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderValue, Version, header};
use http_body::{Frame, SizeHint};

/// Bodies up to this length are read to their end, which keeps the connection open.
const SMALL_BYTES: u64 = 1 << 20;
/// How much of a larger body is read before the connection is closed.
const LINGER_BYTES: u64 = 64 << 20;
/// How long the rest of a body is read.
const LINGER: Duration = Duration::from_secs(10);

/// Keeps hold of a request's body while the handler reads it.
#[derive(Debug)]
pub(crate) struct Unread {
    body: Shared,
    small: bool,
    /// The client sent `Expect: 100-continue` and has not sent the body yet.
    waits: bool,
    version: Version,
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    body: Body,
    is_over: bool,
}

impl Unread {
    /// Returns the request for the handler, and the watcher to call with the answer.
    pub(crate) fn watch(request: Request) -> (Request, Self) {
        let (parts, body) = request.into_parts();
        let is_over = body.is_end_stream();
        let small = body
            .size_hint()
            .exact()
            .is_some_and(|length| length <= SMALL_BYTES);
        let shared = Shared(Arc::new(Mutex::new(State { body, is_over })));
        let unread = Self {
            body: shared.clone(),
            small,
            waits: parts.headers.contains_key(header::EXPECT),
            version: parts.version,
        };
        (Request::from_parts(parts, Body::new(shared)), unread)
    }

    /// To be called with every answer.
    pub(crate) fn finish(self, mut response: Response) -> Response {
        // The handler may still be reading while it streams its answer.
        if self.body.lock().is_over || Arc::strong_count(&self.body.0) > 1 {
            return response;
        }
        if self.version <= Version::HTTP_11 && (self.waits || !self.small) {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if !self.waits {
            tokio::spawn(tokio::time::timeout(LINGER, drain(self.body)));
        }
        response
    }
}

async fn drain(body: Shared) {
    let mut pieces = Body::new(body).into_data_stream();
    let mut seen = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        seen += piece.len() as u64;
        if seen > LINGER_BYTES {
            return;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held cannot leave this state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = self.lock();
        let frame = ready!(Pin::new(&mut state.body).poll_frame(context));
        state.is_over = !matches!(frame, Some(Ok(_))) || state.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
