//! `Idempotency-Key`: a creating request that is repeated because its answer was lost creates nothing twice.
//!
//! It is around the handlers (`crate::router`). The first request with a key takes the key and runs to its end, even if its caller goes
//! away; its answer is stored for a day. Others with the same key wait for that answer. Only successes are stored: a request
//! that created nothing may be sent again.
//!
//! Handlers that insert rows (files, indexes, links) store the answer in the same transaction, with [`Once`]: after a crash
//! there is a row with its answer, or neither. For other handlers the layer stores the answer afterwards. If the process
//! dies in between, the next request with the key runs again half a minute later; for builds this changes nothing, because
//! an index has one build at a time.
//!
//! Panics are caught here with `catch_unwind`, not by tower-http: the key must be released before the panic goes on.

mod fingerprint;
mod once;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts as _, MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use rag_db::idempotency::{self, Answer, Taken};
use rag_settings::ApiSettings;
use sha2::{Digest as _, Sha256};
use sqlx::MySqlPool;
use tokio::time::Instant;
use tracing::Instrument as _;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, OpenApi, Required, ResponseBuilder, Type};
use uuid::Uuid;

use self::fingerprint::Fingerprint;
pub(crate) use self::once::Once;
use crate::http::extract::Domain;
use crate::http::problem::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of repeated answers.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The operations that create something; all are POSTs.
const ROUTES: [&str; 4] = [
    "/api/v1/files",
    "/api/v1/indexes",
    "/api/v1/indexes/{index_id}/build",
    "/api/v1/indexes/{index_id}/files/{file_id}",
];
const MAX_KEY_BYTES: usize = 255;
/// How long to wait for the answer to the first request with the key.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// Often enough that the claim does not count as abandoned.
const RENEW: Duration = Duration::from_secs(8);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A request's claim on its key.
#[derive(Debug)]
struct Claim {
    db: MySqlPool,
    id: [u8; 32],
    owner: [u8; 16],
}

/// What the layer works with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Idempotency {
    db: MySqlPool,
    settings: Arc<ApiSettings>,
}

impl Idempotency {
    pub(crate) fn new(db: MySqlPool, settings: &ApiSettings) -> Self {
        Self {
            db,
            settings: Arc::new(settings.clone()),
        }
    }
}

/// Carries out a request by `next`, or repeats the answer that its key has.
pub(crate) async fn once<F>(
    layer: &Idempotency,
    request: Request,
    next: impl FnOnce(Request) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    match key(&request) {
        Ok(None) => next(request).await,
        // Boxed, so that requests without a key do not pay for the size of its future.
        Ok(Some(key)) => Box::pin(run(layer.clone(), &key, request, next))
            .await
            .unwrap_or_else(Problem::into_response),
        Err(problem) => problem.into_response(),
    }
}

fn key(request: &Request) -> Result<Option<String>, Problem> {
    let route = request.extensions().get::<MatchedPath>();
    let creates = route.is_some_and(|route| ROUTES.contains(&route.as_str()));
    if request.method() != Method::POST || !creates {
        return Ok(None);
    }
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    if values.next().is_some() || key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Problem::malformed(format!(
            "Idempotency-Key must be there once and have 1 to {MAX_KEY_BYTES} visible ASCII characters"
        )));
    }
    Ok(Some(key.to_owned()))
}

async fn run<F>(
    layer: Idempotency,
    key: &str,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Result<Response, Problem>
where
    F: Future<Output = Response> + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    let Domain(domain) = Domain::from_request_parts(&mut parts, &()).await?;
    // A domain contains no NUL, so different pairs give different texts.
    let id = Sha256::digest(format!("{domain}\0{key}")).into();
    let (fingerprint, body) = Fingerprint::of(&layer.settings, &parts, body).await?;
    let claim = Claim {
        db: layer.db,
        id,
        owner: Uuid::new_v4().into_bytes(),
    };
    if let Some(answer) = claim.take().await? {
        fingerprint.read_to_end(&layer.settings, body).await?;
        if fingerprint.value()[..] != answer.fingerprint {
            let message = "was used for another request";
            return Err(Problem::invalid_field("Idempotency-Key", message));
        }
        return Ok(replay(answer));
    }
    parts.extensions.insert(Once::of(&claim, fingerprint.clone()));
    // Spawned as a task, so that it goes on if the caller disconnects.
    let running = next(Request::from_parts(parts, body));
    let task = tokio::spawn(carry_out(claim, fingerprint, running).in_current_span());
    match task.await {
        Ok(response) => Ok(response),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Problem::internal(error)),
    }
}

async fn carry_out(
    claim: Claim,
    fingerprint: Fingerprint,
    running: impl Future<Output = Response>,
) -> Response {
    let mut running = std::pin::pin!(AssertUnwindSafe(running).catch_unwind());
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            () = tokio::time::sleep(RENEW) => claim.renew().await,
        }
    };
    let response = match outcome {
        Ok(response) => response,
        Err(panic) => {
            claim.release().await;
            std::panic::resume_unwind(panic);
        }
    };
    if !response.status().is_success() {
        claim.release().await;
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await else {
        claim.release().await;
        return Problem::conflict("the answer is too large to be stored for an Idempotency-Key")
            .into_response();
    };
    let text = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    claim
        .finish(&Answer {
            fingerprint: fingerprint.value().to_vec(),
            status: parts.status.as_u16(),
            content_type: text(header::CONTENT_TYPE),
            location: text(header::LOCATION),
            body: body.to_vec(),
        })
        .await;
    Response::from_parts(parts, Body::from(body))
}

fn replay(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, answer.content_type),
        (header::LOCATION, answer.location),
        (REPLAYED, Some("true".to_owned())),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

impl Claim {
    /// Takes the key, or waits for the answer of the request that holds it.
    async fn take(&self) -> Result<Option<Answer>, Problem> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let mut connection = self.db.acquire().await?;
            let taken = idempotency::take(&mut connection, &self.id, &self.owner).await?;
            drop(connection);
            match taken {
                Taken::Yours => return Ok(None),
                Taken::Answered(answer) => return Ok(Some(answer)),
                Taken::InProgress if Instant::now() >= deadline => {
                    return Err(Problem::conflict(
                        "a request with this Idempotency-Key is still being carried out; try again later",
                    ));
                }
                Taken::InProgress => tokio::time::sleep(pause).await,
            }
            pause = pause.mul_f32(1.5).min(MAX_PAUSE);
        }
    }

    async fn renew(&self) {
        let renewed = async {
            let mut connection = self.db.acquire().await?;
            Ok::<_, Problem>(idempotency::renew(&mut connection, &self.id, &self.owner).await?)
        };
        note(renewed.await, "renewed");
    }

    async fn finish(&self, answer: &Answer) {
        let finished = async {
            let mut connection = self.db.acquire().await?;
            // False: the handler has stored the answer already, or another request has taken over the key.
            let _is_new = idempotency::finish(&mut connection, &self.id, &self.owner, answer).await?;
            Ok::<_, Problem>(())
        };
        note(finished.await, "stored");
    }

    async fn release(&self) {
        let released = async {
            let mut connection = self.db.acquire().await?;
            Ok::<_, Problem>(idempotency::release(&mut connection, &self.id, &self.owner).await?)
        };
        note(released.await, "released");
    }
}

/// Only logs a failure: the request has its answer in any case.
fn note(result: Result<(), Problem>, what: &str) {
    if let Err(problem) = result {
        let cause = problem.cause_chain();
        tracing::warn!(cause, "an idempotency key was not {what}");
    }
}

/// Adds the header, and the answers it can lead to, to the operations that take it.
pub(crate) fn describe(document: &mut OpenApi) {
    for route in ROUTES {
        let operation = document
            .paths
            .paths
            .get_mut(route)
            .and_then(|item| item.post.as_mut());
        if let Some(operation) = operation {
            describe_operation(operation);
        }
    }
}

fn describe_operation(operation: &mut Operation) {
    let text = "Any text that names this request; a retry with the same one gets the first one's answer. Stored for a day.";
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(text))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(MAX_KEY_BYTES))
                .build(),
        ))
        .build();
    operation
        .parameters
        .get_or_insert_default()
        .push(parameter.into());
    for (status, text) in [
        (
            "409",
            "A request with the same Idempotency-Key is still being carried out",
        ),
        ("422", "The Idempotency-Key was used for another request"),
    ] {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| ResponseBuilder::new().description(text).build().into());
    }
}
