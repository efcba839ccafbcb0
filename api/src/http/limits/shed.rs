//! Limits how many requests run at once. A request above the limit is refused with 503, which is cheap, so that the
//! others stay fast.
//!
//! A request counts until its answer begins. Requests that only wait do not count: a stream of events never does, and a
//! request that waits for a job releases its [`Permit`] first. Transfers of file contents are slow by nature, so they have
//! a limit of their own and count to their end. Health, metrics and the document are not counted.
//!
//! Not tower's `ConcurrencyLimit` with `LoadShed`: it holds the permit while a request waits, and cannot be released early.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use rag_settings::ApiSettings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::{Kind, Problem};

/// The end of paths of streams.
const EVENTS: &str = "/events";

/// The permits for one sort of requests.
pub(crate) type Gate = Arc<Semaphore>;

/// All permits of the process.
#[derive(Debug)]
pub(crate) struct Gates {
    pub(crate) requests: Gate,
    pub(crate) transfers: Gate,
}

impl Gates {
    pub(crate) fn new(settings: &ApiSettings) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(settings.max_concurrent_requests)),
            transfers: Arc::new(Semaphore::new(settings.max_concurrent_transfers)),
        }
    }
}

/// A request's permit, kept in its extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permit(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Permit {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// To be called when the request does nothing but wait from now on.
    pub(crate) fn release(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A request gets a permit or is refused.
pub(crate) async fn shed(
    gate: Gate,
    mut request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    if route.is_some_and(|route| route.as_str().ends_with(EVENTS)) {
        // Thousands of listeners may reconnect at once, and browsers do not reconnect after a refusal.
        return next(request).await;
    }
    let Ok(permit) = gate.try_acquire_owned() else {
        return refusal();
    };
    let permit = Permit::new(permit);
    request.extensions_mut().insert(permit.clone());
    let response = next(request).await;
    // If the caller went away, a request with an Idempotency-Key goes on and keeps its permit until here.
    permit.release();
    response
}

/// As [`shed`], but the permit is held to the end of the answer's body.
pub(crate) async fn hold_while_transferring(
    gate: Gate,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let Ok(permit) = gate.try_acquire_owned() else {
        return refusal();
    };
    next(request).await.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &permit;
            frame
        }))
    })
}

fn refusal() -> Response {
    metrics::counter!("rag_api_requests_shed_total").increment(1);
    Problem::new(
        Kind::Overloaded,
        "more requests are being carried out than this process takes; see Retry-After",
    )
    .into_response()
}
