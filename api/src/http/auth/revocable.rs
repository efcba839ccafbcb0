//! Ends long answers (streams of events, downloads) when the key that asked for them is revoked.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http::header;
use http_body::{Frame, SizeHint};
use rag_domain::ApiKeyId;
use thiserror::Error;

use super::Authenticator;

/// Ends the body of an answer, if it is not complete yet, as soon as the key is revoked.
pub(super) fn while_in_force(
    authenticator: &Authenticator,
    key: Option<ApiKeyId>,
    response: Response,
) -> Response {
    let is_complete = response.body().size_hint().exact().is_some();
    let Some(key) = key.filter(|_| !is_complete) else {
        return response;
    };
    let authenticator = authenticator.clone();
    let revoked = Box::pin(async move { authenticator.revoked(Some(key)).await });
    let has_length = response.headers().contains_key(header::CONTENT_LENGTH);
    response.map(|inner| {
        Body::new(Revocable {
            inner,
            revoked,
            has_length,
            is_over: false,
        })
    })
}

#[derive(Debug, Error)]
#[error("the API key was revoked")]
struct Revoked;

struct Revocable {
    inner: Body,
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The caller knows the length, so the body must end with an error and not look complete.
    has_length: bool,
    is_over: bool,
}

impl fmt::Debug for Revocable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocable").finish_non_exhaustive()
    }
}

impl HttpBody for Revocable {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.revoked.as_mut().poll(context).is_ready() {
            self.is_over = true;
            self.inner = Body::empty();
            let end = self.has_length.then(|| Err(axum::Error::new(Revoked)));
            return Poll::Ready(end);
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
