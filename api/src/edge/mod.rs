//! What happens to every request and every answer, whatever the route: request id, log line, metrics, panics, and the
//! bodies of problems.

mod request_id;

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use tracing::Instrument as _;

pub use request_id::{RequestId, X_REQUEST_ID};

use crate::extract::X_DOMAIN_ID;
use crate::problem::{Kind, Problem};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The outermost layer.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = RequestId::of(request.headers());
    request.extensions_mut().insert(request_id.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let domain = request
        .headers()
        .get(X_DOMAIN_ID)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).chars().take(128).collect::<String>());
    let span = tracing::info_span!("request", request_id = request_id.as_str());

    let answer = async {
        let response = run(request, next).await;
        let response = describe(response, &request_id);
        record(&method, route.as_deref(), domain.as_deref(), response.status(), started);
        response
    };
    let mut response = answer.instrument(span).await;
    response.headers_mut().insert(X_REQUEST_ID, request_id.header());
    response
}

async fn run(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic hook has printed what and where.
        Err(_) => {
            tracing::error!("the handler panicked");
            Problem::new(Kind::Internal, "an unexpected error; it has been logged with this request id")
                .into_response()
        }
    }
}

/// Gives every error answer its problem body: those of handlers and those of the router and of layers.
fn describe(response: Response, request_id: &RequestId) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = response.extensions().get::<Problem>().cloned().unwrap_or_else(|| {
        let kind = Kind::of_status(status);
        let detail = match kind {
            Kind::NotFound => "there is nothing at this path",
            Kind::MethodNotAllowed => "this path does not have this method; see the Allow header",
            _ => status.canonical_reason().unwrap_or("the request failed"),
        };
        Problem::new(kind, detail)
    });
    if let Some(cause) = problem.cause_chain() {
        if status.is_server_error() {
            tracing::error!(%status, error = cause, "request failed");
        } else {
            tracing::debug!(%status, error = cause, "request refused");
        }
    }
    // Headers such as Allow, Retry-After and WWW-Authenticate stay; those that speak of the old body go.
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let (body_parts, body) = Json(problem.body(request_id.as_str())).into_response().into_parts();
    parts.headers.extend(body_parts.headers);
    parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    Response::from_parts(parts, Body::new(body))
}

fn record(
    method: &Method,
    route: Option<&str>,
    domain: Option<&str>,
    status: StatusCode,
    started: Instant,
) {
    let elapsed = started.elapsed();
    let route = route.unwrap_or("unmatched");
    tracing::info!(
        method = %method,
        route,
        status = status.as_u16(),
        duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        domain,
        "request"
    );
    // Unknown methods are the client's invention: they must not become metrics.
    let method = match *method {
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::HEAD => {
            method.as_str().to_owned()
        }
        _ => "OTHER".to_owned(),
    };
    let labels =
        [("method", method), ("route", route.to_owned()), ("status", status.as_u16().to_string())];
    metrics::counter!("rag_api_requests_total", &labels).increment(1);
    metrics::histogram!("rag_api_request_duration_seconds", &labels[..2]).record(elapsed.as_secs_f64());
}
