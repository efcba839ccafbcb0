//! Errors of the API. A handler returns one; the outermost layer renders it in the shape of the profile, so that
//! no handler knows how errors look.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::borrow::Cow;

/// A refusal, in OpenAI's terms.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {message}")]
pub(crate) struct ApiError {
    pub status: StatusCode,
    pub message: String,
    pub kind: &'static str,
    pub param: Option<Cow<'static, str>>,
    pub code: Option<&'static str>,
    /// Only the yandex profile answers so, and only where its real counterpart does.
    pub empty_body: bool,
    pub retry_after_seconds: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "requests",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let message = message.into();
        Self {
            status,
            message,
            kind,
            param: None,
            code: None,
            empty_body: false,
            retry_after_seconds: None,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>, param: impl Into<Cow<'static, str>>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, message)
        }
    }

    pub(crate) fn not_found(what: &str, id: &str, param: &'static str) -> Self {
        let message = format!("No such {what} object: {id}");
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::NOT_FOUND, message)
        }
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key")
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    /// Renders as `{"error":{…}}`, or as a gRPC status when `grpc` is set.
    pub(crate) fn render(&self, grpc: bool, request_id: &str) -> Response {
        let mut response = if self.empty_body {
            self.status.into_response()
        } else if grpc {
            let code = grpc_code(self.status);
            let details =
                json!([{ "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id }]);
            let body = json!({ "code": code, "message": self.message, "details": details });
            (self.status, Json(body)).into_response()
        } else {
            let error = json!({
                "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
            });
            (self.status, Json(json!({ "error": error }))).into_response()
        };
        if let Some(seconds) = self.retry_after_seconds {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The gRPC status code that stands for an HTTP status in Google-style APIs.
pub(crate) fn grpc_code(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        499 => 1,
        501 => 12,
        503 => 14,
        504 => 4,
        _ => 13,
    }
}
