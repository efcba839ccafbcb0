//! The outermost layer, for every route: request id, log line, metrics, panics, problem bodies, unread request bodies.

mod request_id;
mod unread;

use std::any::Any;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use http::{HeaderValue, Method, StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

pub(crate) use request_id::{RequestId, X_REQUEST_ID};
use unread::Unread;

use crate::http::extract::X_DOMAIN_ID;
use crate::http::problem::{Kind, Problem};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Puts everything of this module around a router.
pub(crate) fn around<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe))
}

async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (mut request, unread) = Unread::watch(request);
    let request_id = RequestId::of(request.headers());
    request.extensions_mut().insert(request_id.clone());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let domain = request.headers().get(X_DOMAIN_ID).map(|value| {
        String::from_utf8_lossy(value.as_bytes())
            .chars()
            .take(128)
            .collect::<String>()
    });
    let span = tracing::info_span!(
        "request",
        request_id = request_id.as_str(),
        key.id = tracing::field::Empty
    );

    let answer = async {
        let response = next.run(request).await;
        let response = describe(response, &request_id);
        record(
            &method,
            route.as_deref(),
            domain.as_deref(),
            response.status(),
            started,
        );
        response
    };
    let mut response = unread.finish(answer.instrument(span).await);
    response.headers_mut().insert(X_REQUEST_ID, request_id.header());
    response
}

fn panicked(_message: Box<dyn Any + Send>) -> Response {
    // The panic hook has printed the message and the place.
    tracing::error!("the handler panicked");
    Problem::new(
        Kind::Internal,
        "an unexpected error; it has been logged with this request id",
    )
    .into_response()
}

/// Gives every error answer its problem body, whether it comes from a handler, the router or a layer.
fn describe(response: Response, request_id: &RequestId) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = response
        .extensions()
        .get::<Problem>()
        .cloned()
        .unwrap_or_else(|| {
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
    // Headers such as Allow, Retry-After and WWW-Authenticate stay; those that describe the old body are removed.
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let (body_parts, body) = Json(problem.body(request_id.as_str()))
        .into_response()
        .into_parts();
    parts.headers.extend(body_parts.headers);
    parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    Response::from_parts(parts, Body::new(body))
}

fn record(method: &Method, route: Option<&str>, domain: Option<&str>, status: StatusCode, started: Instant) {
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
    // Clients can invent methods: unknown ones must not become label values.
    let method = match *method {
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::HEAD => {
            method.as_str().to_owned()
        }
        _ => "OTHER".to_owned(),
    };
    let labels = [
        ("method", method),
        ("route", route.to_owned()),
        ("status", status.as_u16().to_string()),
    ];
    metrics::counter!("rag_api_requests_total", &labels).increment(1);
    metrics::histogram!("rag_api_request_duration_seconds", &labels[..2]).record(elapsed.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(router: Router, path: &str) -> (StatusCode, String, serde_json::Value) {
        let request = Request::get(path)
            .header(X_REQUEST_ID, "r-1")
            .body(Body::empty())
            .unwrap();
        let response = around(router).oneshot(request).await.unwrap();
        assert_eq!(response.headers()[X_REQUEST_ID], "r-1");
        let kind = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, kind, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_and_tells_nothing() {
        let handler = async || -> &'static str { panic!("secret detail") };
        let (status, kind, body) = ask(Router::new().route("/", get(handler)), "/").await;
        assert_eq!(
            (status.as_u16(), kind.as_str()),
            (500, "application/problem+json")
        );
        assert_eq!(
            (&body["type"], &body["request_id"]),
            (&"internal-error".into(), &"r-1".into())
        );
        assert!(!body.to_string().contains("secret detail"));
    }

    #[tokio::test]
    async fn bare_error_answers_get_a_problem_body_and_causes_stay_inside() {
        let bare = async || (StatusCode::PAYLOAD_TOO_LARGE, "length limit exceeded");
        let (status, _, body) = ask(Router::new().route("/", get(bare)), "/").await;
        assert_eq!(
            (status.as_u16(), &body["type"]),
            (413, &"content-too-large".into())
        );
        let caused = async || Problem::internal(std::io::Error::other("password is x"));
        let (_, _, body) = ask(Router::new().route("/", get(caused)), "/").await;
        assert!(!body.to_string().contains("password"));
    }
}
