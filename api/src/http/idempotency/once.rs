//! Stores an answer in the same transaction as the rows that it describes.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use rag_db::idempotency::{self, Answer};
use serde::Serialize;
use sqlx::MySqlConnection;

use super::Claim;
use super::fingerprint::Fingerprint;
use crate::http::problem::Problem;

const JSON: &str = "application/json";

/// The claim of the request that is being carried out; empty if it has no `Idempotency-Key`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Once(Option<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: [u8; 32],
    owner: [u8; 16],
    fingerprint: Fingerprint,
}

impl Once {
    pub(super) fn of(claim: &Claim, fingerprint: Fingerprint) -> Self {
        Self(Some(Key {
            id: claim.id,
            owner: claim.owner,
            fingerprint,
        }))
    }

    /// The answer 201 with this body, for the caller once `tx` is committed. From then on retries get it. The request's body
    /// must have been read.
    pub(crate) async fn created(
        &self,
        tx: &mut MySqlConnection,
        location: Option<String>,
        body: &impl Serialize,
    ) -> Result<Response, Problem> {
        let body = serde_json::to_vec(body).map_err(Problem::internal)?;
        if let Some(key) = &self.0 {
            let answer = Answer {
                fingerprint: key.fingerprint.value().to_vec(),
                status: StatusCode::CREATED.as_u16(),
                content_type: Some(JSON.to_owned()),
                location: location.clone(),
                body: body.clone(),
            };
            if !idempotency::finish(tx, &key.id, &key.owner, &answer).await? {
                return Err(Problem::conflict(
                    "another request has taken over this Idempotency-Key; send the request again to get its answer",
                ));
            }
        }
        let mut response = (StatusCode::CREATED, [(header::CONTENT_TYPE, JSON)], body).into_response();
        if let Some(location) = location {
            let location = HeaderValue::try_from(location).map_err(Problem::internal)?;
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    }
}

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
