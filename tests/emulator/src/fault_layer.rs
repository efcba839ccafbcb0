//! What faults do to requests and answers: a middleware, plus one hook for handlers whose file names are in the body.

use crate::{
    app::App,
    context::Context,
    dialect,
    error::{ApiError, grpc_code},
    faults::{Action, Filenames, Fired, Loss, RetryAfter, Subject},
    server::{Connection, FLUSH},
    state::State,
};
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{self, Request},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use futures::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// On a response: it must not be sent; the outermost layer ends the connection so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost(pub Loss);

/// On an error: a fault has met the request after its body was read.
const MET_BY_FAULT: &str = "met_by_fault";

/// Request bodies are read to their end before an injected refusal, so that clients see it for certain.
const DRAIN_BYTES: usize = 16 << 20;
/// Answers that faults rewrite are at most this long.
const ANSWER_BYTES: usize = 256 << 20;

pub(crate) async fn layer(
    extract::State(app): extract::State<Arc<App>>,
    extract::Extension(context): extract::Extension<Arc<Context>>,
    extract::Extension(connection): extract::Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    if context.external || app.faults.lock().is_empty() {
        return next.run(request).await;
    }
    if let Some(fault) = pick_early(&app, &context) {
        context.set_fault(fault.clone());
        if let Some(response) = before(&app, &context, &fault).await {
            drain(request.into_body()).await;
            return response;
        }
        if fault == Action::RepeatCursor {
            forget_cursor(&mut request);
        }
    }
    let response = next.run(request).await;
    let Some(fault) = context.fault() else {
        return response;
    };
    let refused_late = response
        .extensions()
        .get::<ApiError>()
        .is_some_and(|e| e.code == Some(MET_BY_FAULT));
    if refused_late && let Some(response) = before(&app, &context, &fault).await {
        return response;
    }
    after(&fault, response, &connection).await
}

/// The hook: to be called by a handler as soon as it knows the file names and before it changes anything.
pub(crate) async fn meet(app: &App, context: &Context, filenames: &[&str]) -> Result<(), ApiError> {
    if context.external || context.fault().is_some() || filenames.is_empty() {
        return Ok(());
    }
    let Some(fault) = app
        .faults
        .lock()
        .pick(subject(context, Filenames::Late(filenames)))
    else {
        return Ok(());
    };
    context.set_fault(fault.clone());
    if before(app, context, &fault).await.is_some() {
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "").code(MET_BY_FAULT));
    }
    Ok(())
}

fn pick_early(app: &App, context: &Context) -> Option<Fired> {
    // Where the name is in the body, `meet` will know it.
    let in_body = matches!(
        context.operation,
        "files.create"
            | "uploads.create"
            | "vector_stores.create"
            | "vector_stores.files.create"
            | "vector_stores.file_batches.create"
    );
    let name = context
        .file_id
        .as_ref()
        .and_then(|id| app.state.lock().filename(id));
    let names: Vec<&str> = name.as_deref().into_iter().collect();
    let filenames = if in_body {
        Filenames::Unknown
    } else {
        Filenames::Known(&names)
    };
    app.faults.lock().pick(subject(context, filenames))
}

fn subject<'a>(context: &'a Context, filenames: Filenames<'a>) -> Subject<'a> {
    Subject {
        operation: context.operation,
        method: &context.method,
        path: &context.path,
        filenames,
    }
}

/// What happens instead of the effect, if anything does.
async fn before(app: &App, context: &Context, fault: &Action) -> Option<Response> {
    match fault {
        Action::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            None
        }
        Action::Hold { gate } => {
            gate_opened(app, gate).await;
            None
        }
        Action::HideNew { seconds } => {
            let age = app.state.lock().age(context)?;
            let id = context
                .file_id
                .as_ref()
                .or(context.batch_id.as_ref())
                .or(context.vector_store_id.as_ref())?;
            (age.as_secs_f64() < *seconds).then(|| ApiError::not_found("object", id, "id").into_response())
        }
        Action::Respond {
            after_effect: false, ..
        } => Some(made_up(fault)),
        Action::RateLimit { .. } | Action::Quota | Action::Html { .. } | Action::Grpc { .. } => {
            Some(dialect::of_fault(app, fault).unwrap_or_else(|| made_up(fault)))
        }
        Action::LoseRequest { how } => Some(lost(*how)),
        _ => None,
    }
}

/// Waits until nothing keeps the gate closed any more.
pub(crate) async fn gate_opened(app: &App, gate: &str) {
    const POLL: Duration = Duration::from_millis(5);
    while app.faults.lock().is_closed(gate) {
        tokio::time::sleep(POLL).await;
    }
}

/// What happens to the answer after the effect.
async fn after(fault: &Action, response: Response, connection: &Connection) -> Response {
    match fault {
        Action::Respond {
            after_effect: true, ..
        } if response.status().is_success() => made_up(fault),
        Action::LoseAnswer { how } => lost(*how),
        Action::ResetMidBody => {
            rewrite(response, |bytes| {
                let (half, total) = (bytes.slice(..bytes.len() / 2), bytes.len());
                let connection = connection.clone();
                let rest = stream::once(async move {
                    tokio::time::sleep(FLUSH).await;
                    connection.end(Loss::Reset);
                    std::future::pending().await
                });
                (
                    Body::from_stream(stream::iter([Ok::<_, Infallible>(half)]).chain(rest)),
                    Some(total),
                )
            })
            .await
        }
        Action::TruncateJson => {
            rewrite(response, |bytes| {
                (Body::from(bytes.slice(..bytes.len() / 2)), None)
            })
            .await
        }
        Action::SlowDrip {
            piece_bytes,
            every_ms,
        } => {
            let (size, pause) = ((*piece_bytes).max(1), Duration::from_millis(*every_ms));
            rewrite(response, |bytes| {
                let pieces: Vec<Bytes> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
                let drip = stream::iter(pieces).then(move |piece| async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, Infallible>(piece)
                });
                (Body::from_stream(drip), Some(bytes.len()))
            })
            .await
        }
        Action::CloseAfterAnswer => {
            connection.end_after_answer();
            response
        }
        Action::MergeJson { fields } => merge(response, fields.clone()).await,
        Action::EmptyPage { has_more } => {
            merge(
                response,
                object(json!({ "data": [], "first_id": "", "last_id": "", "has_more": has_more })),
            )
            .await
        }
        Action::RepeatCursor => merge(response, object(json!({ "has_more": true }))).await,
        _ => response,
    }
}

fn lost(how: Loss) -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(Lost(how));
    response
}

fn made_up(fault: &Action) -> Response {
    let error = |status: StatusCode, message: &str, kind: &str, code: Option<&str>| {
        let body = json!({ "error": { "message": message, "type": kind, "param": null, "code": code } });
        (status, axum::Json(body)).into_response()
    };
    let code_of = |status: u16| StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match fault {
        Action::Respond {
            status,
            headers,
            body,
            text,
            ..
        } => {
            let status = code_of(*status);
            let mut response = match (body, text) {
                (Some(body), _) => (status, axum::Json(body)).into_response(),
                (None, Some(text)) => (status, text.clone()).into_response(),
                (None, None) => error(
                    status,
                    "The server had an error (injected).",
                    "server_error",
                    None,
                ),
            };
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
        Action::RateLimit { retry_after } => {
            let message = "Rate limit reached (injected). Please try again later.";
            let mut response = error(
                StatusCode::TOO_MANY_REQUESTS,
                message,
                "requests",
                Some("rate_limit_exceeded"),
            );
            if let Some((name, value)) = retry_after.and_then(retry_header) {
                response.headers_mut().insert(name, value);
            }
            response
        }
        Action::Quota => {
            let message =
                "You exceeded your current quota, please check your plan and billing details (injected).";
            error(
                StatusCode::TOO_MANY_REQUESTS,
                message,
                "insufficient_quota",
                Some("insufficient_quota"),
            )
        }
        Action::Html { status } => {
            let page =
                "<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>";
            (code_of(*status), Html(page)).into_response()
        }
        Action::Grpc { status, message } => {
            let status = code_of(*status);
            let body = json!({ "code": grpc_code(status), "message": message, "details": [] });
            (status, axum::Json(body)).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn retry_header(retry_after: RetryAfter) -> Option<(HeaderName, HeaderValue)> {
    Some(match retry_after {
        RetryAfter::Seconds(seconds) => (header::RETRY_AFTER, seconds.into()),
        RetryAfter::Milliseconds(ms) => (HeaderName::from_static("retry-after-ms"), ms.into()),
        RetryAfter::HttpDate(seconds) => {
            let at = chrono::Utc::now() + chrono::TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?;
            let date = at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            (header::RETRY_AFTER, HeaderValue::try_from(date).ok()?)
        }
    })
}

/// Replaces the body; `declared` is the length to announce when it differs from what will come.
async fn rewrite(response: Response, change: impl FnOnce(Bytes) -> (Body, Option<usize>)) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, ANSWER_BYTES).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (body, declared) = change(bytes);
    parts.headers.remove(header::CONTENT_LENGTH);
    if let Some(length) = declared {
        parts.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, body)
}

async fn merge(response: Response, fields: Map<String, Value>) -> Response {
    if !response.status().is_success() {
        return response;
    }
    rewrite(response, |bytes| {
        let Ok(Value::Object(mut object)) = serde_json::from_slice(&bytes) else {
            return (Body::from(bytes), None);
        };
        for (key, value) in fields {
            if value.is_null() {
                object.remove(&key);
            } else {
                object.insert(key, value);
            }
        }
        (Body::from(Value::Object(object).to_string()), None)
    })
    .await
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(object) = value {
        object
    } else {
        Map::new()
    }
}

fn forget_cursor(request: &mut Request) {
    let query = request.uri().query().unwrap_or_default();
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with("after="))
        .collect();
    let path = format!("{}?{}", request.uri().path(), kept.join("&"));
    if let Ok(uri) = Uri::try_from(path) {
        *request.uri_mut() = uri;
    }
}

async fn drain(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut seen = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        seen += piece.len();
        if seen > DRAIN_BYTES {
            return;
        }
    }
}

impl State {
    fn filename(&self, file_id: &str) -> Option<Arc<str>> {
        self.files.get(file_id).map(|file| file.filename.clone())
    }

    /// Time since the object that the path names was created.
    fn age(&self, context: &Context) -> Option<Duration> {
        let created = match (&context.vector_store_id, &context.file_id, &context.batch_id) {
            (Some(store), Some(file), _) => self.stores.get(store)?.files.get(file)?.created,
            (Some(_), None, Some(batch)) => self.batches.get(batch)?.created,
            (Some(store), None, None) => self.stores.get(store)?.created,
            (None, Some(file), _) => self.files.get(file)?.created,
            (None, None, _) => return None,
        };
        Some(created.elapsed())
    }
}
