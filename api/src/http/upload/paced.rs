//! A request body with a minimum rate and bounded buffering.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt as _};
use rag_server::{LeastRate, Progress, Stalled};
use rag_settings::ApiSettings;
use thiserror::Error;

/// Limit for the boundary and headers of one part, and anything before them.
const MAX_HEADER_BYTES: u64 = 64 * 1024;

/// Why a body did not arrive.
#[derive(Debug, Error)]
pub(crate) enum BodyFailed {
    #[error("the upload stalled: {0}")]
    Stalled(Stalled),
    #[error("the request is too large")]
    TooLarge,
    #[error("the headers of a part are too large, or the boundary is not the one that Content-Type names")]
    HeadersTooLarge,
    #[error("the body did not arrive completely")]
    Broken(#[source] axum::Error),
}

/// Tells the body whether the form reader is between two parts. Between parts the reader buffers everything until it finds a
/// boundary and headers. Without a limit a body with a wrong boundary would be buffered whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    between_parts: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl Pace {
    pub(crate) fn begin_headers(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.between_parts.store(true, Ordering::Relaxed);
    }

    pub(crate) fn begin_contents(&self) {
        self.between_parts.store(false, Ordering::Relaxed);
    }

    fn admits(&self) -> bool {
        !self.between_parts.load(Ordering::Relaxed) || self.bytes.load(Ordering::Relaxed) <= MAX_HEADER_BYTES
    }
}

/// The minimum rate of an upload.
pub(crate) fn least_rate(settings: &ApiSettings) -> LeastRate {
    LeastRate {
        idle: settings.upload_idle,
        bytes_per_second: settings.min_transfer_bytes_per_second,
    }
}

/// The body's data. It ends with an error when it arrives more slowly than `least`, or when headers exceed their limit.
///
/// After each piece the stream is pending once: form readers buffer everything that a stream has ready.
pub(crate) fn paced(
    body: Body,
    least: LeastRate,
    pace: Pace,
) -> impl Stream<Item = Result<Bytes, BodyFailed>> + Send {
    let start = Some((body.into_data_stream(), Progress::new(least)));
    let timed = futures::stream::unfold(start, move |state| {
        let pace = pace.clone();
        async move {
            let (mut data, mut progress) = state?;
            if !pace.admits() {
                return Some((Err(BodyFailed::HeadersTooLarge), None));
            }
            let (began, patience) = (Instant::now(), progress.patience());
            let Ok(next) = tokio::time::timeout(patience, data.next()).await else {
                let stalled = progress.waiting(patience).err();
                let stalled = stalled.unwrap_or(Stalled::Idle(least.idle));
                return Some((Err(BodyFailed::Stalled(stalled)), None));
            };
            match next? {
                Err(error) => Some((Err(failed(error)), None)),
                Ok(piece) => {
                    let length = piece.len() as u64;
                    pace.bytes.fetch_add(length, Ordering::Relaxed);
                    match progress.moved(began.elapsed(), length) {
                        Ok(()) => Some((Ok(piece), Some((data, progress)))),
                        Err(stalled) => Some((Err(BodyFailed::Stalled(stalled)), None)),
                    }
                }
            }
        }
    });
    PendingOnce {
        inner: Box::pin(timed),
        pause: false,
    }
}

fn failed(error: axum::Error) -> BodyFailed {
    let limited = error
        .source()
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
    if limited {
        BodyFailed::TooLarge
    } else {
        BodyFailed::Broken(error)
    }
}

struct PendingOnce<S> {
    inner: Pin<Box<S>>,
    pause: bool,
}

impl<S: Stream> Stream for PendingOnce<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.inner.as_mut().poll_next(context);
        self.pause = matches!(polled, Poll::Ready(Some(_)));
        polled
    }
}
