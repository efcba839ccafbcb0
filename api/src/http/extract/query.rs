//! Query strings.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;

/// A filter's text is not endless.
pub(crate) fn at_most(name: &str, text: Option<&str>, most_chars: usize) -> Result<(), Problem> {
    match text {
        Some(text) if text.chars().count() > most_chars => Err(Problem::malformed(format!(
            "{name} must not have more than {most_chars} characters"
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
