//! The one shape of every error answer: RFC 9457 `application/problem+json`.
//!
//! Handlers return a [`Problem`]; `edge` writes its body, because only there the request id is known. The cause
//! (a database error, say) is carried along for the log and never reaches the body.

use std::error::Error;
use std::sync::Arc;

use apalis_mariadb::QueueError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rag_db::DbError;
use rag_files::FilesError;
use serde::Serialize;
use utoipa::ToSchema;

/// What kind of problem: a stable slug, a title, a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MalformedRequest,
    InvalidDomain,
    UnknownProvider,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    FilesQuotaExceeded,
    ContentTooLarge,
    BytesQuotaExceeded,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    ValidationFailed,
    TooManyRequests,
    Internal,
    ProviderFailed,
    Unavailable,
    Overloaded,
    InsufficientStorage,
}

impl Kind {
    const fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::MalformedRequest => (
                "malformed-request",
                "The request cannot be read",
                StatusCode::BAD_REQUEST,
            ),
            Self::InvalidDomain => (
                "invalid-domain",
                "X-Domain-Id is missing or not valid",
                StatusCode::BAD_REQUEST,
            ),
            Self::UnknownProvider => ("unknown-provider", "Unknown provider type", StatusCode::NOT_FOUND),
            Self::Unauthorized => (
                "unauthorized",
                "A valid API key is needed",
                StatusCode::UNAUTHORIZED,
            ),
            Self::Forbidden => (
                "forbidden",
                "The API key does not allow this",
                StatusCode::FORBIDDEN,
            ),
            Self::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                "Method not allowed",
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            Self::RequestTimeout => (
                "request-timeout",
                "The request took too long to arrive",
                StatusCode::REQUEST_TIMEOUT,
            ),
            Self::Conflict => (
                "conflict",
                "The present state does not allow this",
                StatusCode::CONFLICT,
            ),
            Self::FilesQuotaExceeded => (
                "files-quota-exceeded",
                "The domain may not have more files",
                StatusCode::CONFLICT,
            ),
            Self::BytesQuotaExceeded => (
                "bytes-quota-exceeded",
                "The domain may not store so much",
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
            Self::ContentTooLarge => (
                "content-too-large",
                "Content too large",
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                "Unsupported media type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::RangeNotSatisfiable => (
                "range-not-satisfiable",
                "Range not satisfiable",
                StatusCode::RANGE_NOT_SATISFIABLE,
            ),
            Self::ValidationFailed => (
                "validation-failed",
                "Some fields are not valid",
                StatusCode::UNPROCESSABLE_ENTITY,
            ),
            Self::TooManyRequests => (
                "too-many-requests",
                "The API key's rate limit is used up",
                StatusCode::TOO_MANY_REQUESTS,
            ),
            Self::Internal => (
                "internal-error",
                "Internal error",
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            Self::ProviderFailed => ("provider-failed", "The provider failed", StatusCode::BAD_GATEWAY),
            Self::Unavailable => (
                "unavailable",
                "Temporarily unavailable, try again",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::Overloaded => (
                "overloaded",
                "Too many requests at once, try again",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::InsufficientStorage => (
                "insufficient-storage",
                "The server has no room for this",
                StatusCode::INSUFFICIENT_STORAGE,
            ),
        }
    }

    pub(crate) const fn status(self) -> StatusCode {
        self.parts().2
    }

    /// For answers of the router (404, 405) and of layers (408, 413).
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => Self::ContentTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::RANGE_NOT_SATISFIABLE => Self::RangeNotSatisfiable,
            StatusCode::UNPROCESSABLE_ENTITY => Self::ValidationFailed,
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyRequests,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            StatusCode::INSUFFICIENT_STORAGE => Self::InsufficientStorage,
            status if status.is_client_error() => Self::MalformedRequest,
            _ => Self::Internal,
        }
    }
}

/// What is wrong with one field of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where it is: `name`, `chunking_strategy`, `files[2].file_id`.
    #[schema(example = "name")]
    pub(crate) field: String,
    #[schema(example = "must have 1 to 255 characters")]
    pub(crate) message: String,
}

/// Body of every error answer (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// A stable slug that names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "not-found")]
    pub(crate) kind: &'static str,
    /// The kind in words; the same for every problem of the kind.
    #[schema(example = "Not found")]
    pub(crate) title: &'static str,
    /// The HTTP status again.
    #[schema(example = 404)]
    pub(crate) status: u16,
    /// What happened this time.
    #[schema(example = "no such index")]
    pub(crate) detail: String,
    /// The answer's X-Request-Id, to be named when asking for help.
    #[schema(example = "3f0c1b9e-6b5d-4c53-9d0a-0d8f4e1b2a7c")]
    pub(crate) request_id: String,
    /// The fields that are wrong, if the problem is about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: Vec<FieldError>,
}

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            cause: None,
        }))
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("no such {what}"))
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Kind::MalformedRequest, detail)
    }

    /// 422 for fields whose values are not valid.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let named: Vec<String> = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect();
        Self::new(Kind::ValidationFailed, named.join("; ")).with_errors(errors)
    }

    pub(crate) fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError {
            field: field.to_owned(),
            message: message.into(),
        }])
    }

    /// 500. The cause is logged and not shown.
    pub(crate) fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::new(
            Kind::Internal,
            "an unexpected error; it has been logged with this request id",
        )
        .because(cause)
    }

    #[must_use]
    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    #[must_use]
    pub(crate) fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The cause with its sources, for the log.
    pub(crate) fn cause_chain(&self) -> Option<String> {
        let mut next: Option<&dyn Error> = self.0.cause.as_deref().map(|cause| cause as &dyn Error);
        let mut chain = Vec::new();
        while let Some(error) = next {
            chain.push(error.to_string());
            next = error.source();
        }
        (!chain.is_empty()).then(|| chain.join(": "))
    }

    pub(crate) fn body(&self, request_id: &str) -> ProblemBody {
        let (kind, title, status) = self.0.kind.parts();
        ProblemBody {
            kind,
            title,
            status: status.as_u16(),
            detail: self.0.detail.clone(),
            request_id: request_id.to_owned(),
            errors: self.0.errors.clone(),
        }
    }
}

impl IntoResponse for Problem {
    /// Status and headers; the body follows in `edge`, which finds the problem among the extensions.
    fn into_response(self) -> Response {
        let mut response = self.kind().status().into_response();
        match self.kind() {
            Kind::Unauthorized => {
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Kind::Unavailable | Kind::Overloaded => {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match &error {
            DbError::NotFound(what) => Self::not_found(what),
            DbError::Conflict { .. } | DbError::Duplicate(_) => Self::conflict(error.to_string()),
            DbError::Sqlx(_) if error.is_transient() => {
                Self::new(Kind::Unavailable, "the database cannot be reached right now").because(error)
            }
            DbError::Sqlx(_) => Self::internal(error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Database(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<FilesError> for Problem {
    fn from(error: FilesError) -> Self {
        if error.is_out_of_space() {
            let detail = "the server's storage is full; nothing of the file was kept";
            return Self::new(Kind::InsufficientStorage, detail).because(error);
        }
        if matches!(error, FilesError::NotMounted(_)) {
            return Self::new(Kind::Unavailable, "the stored files cannot be reached right now")
                .because(error);
        }
        Self::internal(error)
    }
}
