//! How errors look in each dialect. Handlers know OpenAI's alone; here they are turned into what another server says.

use crate::{
    app::App,
    context::Context,
    error::ApiError,
    faults::{Action, RetryAfter},
};
use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// Whether it is refused for something in a store, or a store, that is not there.
pub(crate) fn is_missing(context: &Context, response: &Response) -> bool {
    response.status() == StatusCode::NOT_FOUND && context.operation.starts_with("vector_stores.")
}

/// A fault that a gateway translates as it does any refusal of the server behind it.
pub(crate) fn of_fault(app: &App, fault: &Action) -> Option<Response> {
    if !app.deviations.gateway_errors {
        return None;
    }
    let (message, code, retry_after_seconds) = match fault {
        Action::RateLimit { retry_after: None } => ("Rate limit reached.", "rate_limit_exceeded", None),
        Action::RateLimit {
            retry_after: Some(RetryAfter::Seconds(seconds)),
        } => ("Rate limit reached.", "rate_limit_exceeded", Some(*seconds)),
        Action::Quota => ("You exceeded your current quota.", "insufficient_quota", None),
        _ => return None,
    };
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).code(code);
    let error = ApiError {
        retry_after_seconds,
        ..error
    };
    Some(error.into_response())
}

pub(crate) fn render(app: &App, context: &Context, error: &ApiError, request_id: &str) -> Response {
    let deviations = app.deviations;
    if !deviations.bare_errors {
        return error.render(app.options.is_yandex(), request_id);
    }
    let mut error = error.clone();
    if error.status == StatusCode::NOT_FOUND && context.operation == "unknown" {
        return (error.status, Json(json!({ "detail": "Not Found" }))).into_response();
    }
    if deviations.missing_is_400
        && error.status == StatusCode::NOT_FOUND
        && context.operation.starts_with("vector_stores.")
    {
        error.status = StatusCode::BAD_REQUEST;
    }
    let retry_after = error.retry_after_seconds;
    let body = if deviations.gateway_errors {
        through_gateway(context, &mut error)
    } else if context.operation.starts_with("vector_stores.file_batches.")
        && error.status == StatusCode::BAD_REQUEST
    {
        json!({ "detail": error.message })
    } else {
        json!({ "error": { "message": error.message } })
    };
    let mut response = (error.status, Json(body)).into_response();
    if let Some(seconds) = retry_after {
        let name = match (
            deviations.rename_retry_after,
            context.operation.starts_with("files."),
        ) {
            (false, _) => "retry-after",
            (true, false) => "llm_provider-retry-after",
            (true, true) => return response,
        };
        let value = HeaderValue::from(seconds);
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
    response
}

/// LiteLLM wraps what the server behind it said, differently for stores and for files.
fn through_gateway(context: &Context, error: &mut ApiError) -> Value {
    if error.status == StatusCode::UNAUTHORIZED {
        error.status = StatusCode::BAD_REQUEST;
        return json!({ "error": {
            "message": "No connected db.", "type": "no_db_connection", "param": null, "code": "400",
        }});
    }
    let status = error.status.as_u16();
    let inner = match error.code.filter(|_| status == 429) {
        Some(code) => json!({ "error": { "message": error.message, "code": code } }),
        None => json!({ "error": { "message": error.message } }),
    };
    let (class, kind) = match status {
        429 => ("RateLimitError", "throttling_error"),
        500.. => (
            "InternalServerError: InternalServerError",
            "internal_server_error",
        ),
        _ => ("BadRequestError", "invalid_request_error"),
    };
    let message = if context.operation.starts_with("files.") {
        format!("Error code: {status} - {}", error.message)
    } else {
        format!("litellm.{class}: OpenAIException - {inner}")
    };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": status.to_string() } })
}
