//! Handlers, one file per resource. Each checks its input, lets the `meet` hook of the faults have a look where file
//! names come in a body, changes the state in one lock, and shows the result.

pub(crate) mod file_batches;
pub(crate) mod files;
pub(crate) mod models;
pub(crate) mod store_files;
pub(crate) mod uploads;
pub(crate) mod vector_stores;

use crate::{app::App, error::ApiError, view};
use axum::{
    Json,
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use serde_json::Value;

pub(crate) type Answer = Result<Json<Value>, ApiError>;

/// An object that clients poll; says when to look again while it is in progress.
fn polled(app: &App, view: Value) -> Response {
    let wait = app.options.poll_after_ms.filter(|_| view::is_in_progress(&view));
    let mut response = Json(view).into_response();
    if let Some(ms) = wait {
        response.headers_mut().insert(
            HeaderName::from_static("openai-poll-after-ms"),
            HeaderValue::from(ms),
        );
    }
    response
}
