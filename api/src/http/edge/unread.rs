//! Requests that are refused before their body was read. hyper ends such a connection after the answer and says nothing of
//! it, so a client's next request on it fails. Here the rest of a small body is read and thrown away, and the connection
//! goes on; before a large one, or one of unknown length, the answer says `Connection: close`, and the rest is read for a
//! while all the same, so that the client sees the answer and not a reset.

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

/// Bodies up to this length are read to their end for the sake of the connection.
const SMALL_BYTES: u64 = 1 << 20;
/// This much of a larger one is read before the connection is cut.
const LINGER_BYTES: u64 = 64 << 20;
/// And for so long.
const LINGER: Duration = Duration::from_secs(10);

/// Remembers a request's body while its handler has it.
#[derive(Debug)]
pub(crate) struct Unread {
    body: Shared,
    small: bool,
    /// The client waits for our word before it sends the body.
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
    /// The request as the handler gets it, and what is to be told of the answer afterwards.
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

    /// To be called with the answer, whatever it says.
    pub(crate) fn finish(self, mut response: Response) -> Response {
        // A handler that still reads, while it streams its answer, is not done.
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
        // A panic in a body's code leaves nothing that could be half done here.
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
