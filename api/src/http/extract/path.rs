//! Ids in paths. A text that is no id is answered with 404, as an id that does not exist.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use crate::http::problem::Problem;

/// The path's parameters as ids or words: one value, or a tuple of them in the path's order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id<T>(pub(crate) T);

impl<S: Send + Sync, T: FromPath> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| nothing())?;
        let values: Vec<&str> = params.iter().map(|(_, value)| value).collect();
        T::from_path(&values).map(Self).ok_or_else(nothing)
    }
}

fn nothing() -> Problem {
    Problem::not_found("thing: the path does not hold a valid id")
}

/// Made from the values of a path's parameters.
pub(crate) trait FromPath: Sized {
    fn from_path(values: &[&str]) -> Option<Self>;
}

macro_rules! one_value {
    ($($id:ty),+) => {$(
        impl FromPath for $id {
            fn from_path(values: &[&str]) -> Option<Self> {
                let [value] = values else { return None };
                value.parse().ok()
            }
        }
    )+};
}

one_value!(
    String,
    rag_domain::FileId,
    rag_domain::IndexId,
    rag_domain::ApiKeyId,
    rag_domain::UploadId,
    apalis_mariadb::JobId
);

impl<A: FromPath, B: FromPath> FromPath for (A, B) {
    fn from_path(values: &[&str]) -> Option<Self> {
        let [first, second] = values else { return None };
        Some((A::from_path(&[first])?, B::from_path(&[second])?))
    }
}
