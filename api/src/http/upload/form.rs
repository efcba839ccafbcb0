//! `multipart/form-data`, part by part, in any order.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request};
use futures::{Stream, StreamExt as _};
use http::StatusCode;
use rag_settings::ApiSettings;

use super::paced::{BodyFailed, Pace, least_rate, paced};
use crate::http::problem::{Kind, Problem};

/// More parts than any form of ours has.
const MAX_PARTS: usize = 128;

/// A form that is being received.
#[derive(Debug)]
pub(crate) struct Form {
    multipart: Multipart,
    pace: Pace,
    /// The body's own error, which the form reader would hide in one of its own.
    failure: Failure,
    parts: usize,
}

type Failure = Arc<Mutex<Option<BodyFailed>>>;

impl Form {
    pub(crate) async fn of(request: Request, settings: &ApiSettings) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let (pace, failure) = (Pace::default(), Failure::default());
        let noted = Arc::clone(&failure);
        // The limit that the route's layer set applies to the original body.
        let body = axum::RequestExt::with_limited_body(Request::from_parts(parts.clone(), body)).into_body();
        let data = paced(body, least_rate(settings), pace.clone()).map(move |piece| {
            piece.map_err(|error| {
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                std::io::Error::other("the body failed")
            })
        });
        let request = Request::from_parts(parts, Body::from_stream(data));
        let multipart = Multipart::from_request(request, &()).await.map_err(|rejection| {
            Problem::new(
                Kind::UnsupportedMediaType,
                format!("the body must be multipart/form-data: {}", rejection.body_text()),
            )
        })?;
        Ok(Self {
            multipart,
            pace,
            failure,
            parts: 0,
        })
    }

    /// The next part; the one before must have been read to its end.
    pub(crate) async fn next_part(&mut self) -> Result<Option<Part<'_>>, Problem> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(Problem::malformed(format!(
                "the form has more than {MAX_PARTS} parts"
            )));
        }
        self.pace.begin_headers();
        let failure = Arc::clone(&self.failure);
        let field = self
            .multipart
            .next_field()
            .await
            .map_err(|error| problem(&failure, &error))?;
        self.pace.begin_contents();
        Ok(field.map(|field| Part { field, failure }))
    }
}

/// One part of a form.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    field: Field<'a>,
    failure: Failure,
}

impl<'a> Part<'a> {
    pub(crate) fn name(&self) -> &str {
        self.field.name().unwrap_or_default()
    }

    pub(crate) fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// The whole part as text.
    pub(crate) async fn text(mut self, max_bytes: usize) -> Result<String, Problem> {
        let name = self.name().to_owned();
        let mut bytes = Vec::new();
        while let Some(piece) = self
            .field
            .chunk()
            .await
            .map_err(|error| problem(&self.failure, &error))?
        {
            if bytes.len() + piece.len() > max_bytes {
                return Err(Problem::invalid_field(
                    &name,
                    format!("must not be longer than {max_bytes} bytes"),
                ));
            }
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).map_err(|_| Problem::invalid_field(&name, "must be UTF-8 text"))
    }

    /// The part's bytes as they arrive.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Bytes, Problem>> + use<'a> {
        let failure = self.failure;
        self.field
            .map(move |piece| piece.map_err(|error| problem(&failure, &error)))
    }
}

fn problem(failure: &Failure, error: &MultipartError) -> Problem {
    if let Some(failure) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return failure.into();
    }
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Kind::ContentTooLarge, "the request is too large"),
        _ => Problem::malformed(format!("the form cannot be read: {}", error.body_text())),
    }
}
