//! How many requests are carried out at once. What comes on top is refused at once (503), which costs next to nothing,
//! instead of making everything slow.
//!
//! A request counts until its answer begins. Those that only wait do not: streams of events never do, and a caller that
//! waits for a job gives its [`Slot`] back first. Transfers of file contents take their time by nature, so they are counted
//! apart, to their end. Health, metrics and the document are not counted.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use rag_settings::ApiSettings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::{Kind, Problem};

/// The end of paths of streams.
const EVENTS: &str = "/events";

/// Places for requests of one sort.
pub(crate) type Gate = Arc<Semaphore>;

/// The process's places.
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

/// The place of one request, among its extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Slot {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// The request does nothing from here on but wait.
    pub(crate) fn give_back(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The layer: a request has a place, or is refused.
pub(crate) async fn shed(gate: Gate, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    if route.is_some_and(|route| route.as_str().ends_with(EVENTS)) {
        // Thousands of listeners may come back at once, and browsers do not come back from a refusal.
        return next.run(request).await;
    }
    let Ok(permit) = gate.try_acquire_owned() else {
        return refusal();
    };
    let slot = Slot::new(permit);
    request.extensions_mut().insert(slot.clone());
    let response = next.run(request).await;
    // What goes on under an Idempotency-Key after its caller went away still has it.
    slot.give_back();
    response
}

/// As [`shed`], to the end of the answer's body.
pub(crate) async fn hold_while_transferring(gate: Gate, request: Request, next: Next) -> Response {
    let Ok(permit) = gate.try_acquire_owned() else {
        return refusal();
    };
    next.run(request).await.map(|body| {
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
