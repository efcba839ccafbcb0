//! Query strings.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;

/// Limits the length of a filter's text.
pub(crate) fn check_length(name: &str, text: Option<&str>, max_chars: usize) -> Result<(), Problem> {
    match text {
        Some(text) if text.chars().count() > max_chars => Err(Problem::malformed(format!(
            "{name} must not have more than {max_chars} characters"
        ))),
        _ => Ok(()),
    }
}

/// The query string as a `T`.
#[derive(Debug, Clone)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::malformed(rejection.body_text())),
        }
    }
}
