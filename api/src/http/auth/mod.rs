//! Who calls: bearer keys with a role and, for service keys, the domains they may name.
//!
//! [`require`] is layered over whole groups of routes, so that no handler can forget it. Only its holder has the key itself;
//! `rag_api_keys` has its SHA-256 (the key is random, so no slow hash is needed).
//!
//! Not `headers::Authorization`: it cannot tell a missing header from one of another form, and each has its own problem.

mod cache;
mod caller;
mod held;
mod issue;
mod key;
mod revocable;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, header};
use rag_domain::ApiKeyId;
use rag_settings::ApiAuth;
use sqlx::MySqlPool;

pub use cache::KeyCache;
pub(crate) use caller::Caller;
pub use caller::Role;
pub(crate) use issue::{Domains, Request as KeyRequest};
pub use key::{fingerprint, new_key};

use crate::http::problem::{Kind, Problem};

/// Lets callers through whose key has at least this role, and puts the [`Caller`] into the request's extensions.
pub(crate) async fn require(
    authenticator: &Authenticator,
    role: Role,
    mut request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    match authenticator.admit(role, request.headers()).await {
        Ok(caller) => {
            let key = caller.key();
            if let Some(key) = key {
                tracing::Span::current().record("key.id", key.to_string());
            }
            request.extensions_mut().insert(caller);
            revocable::while_in_force(authenticator, key, next(request).await)
        }
        Err(problem) => problem.into_response(),
    }
}

/// Knows whose key a request carries. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    db: MySqlPool,
    keys: KeyCache,
    mode: ApiAuth,
}

impl Authenticator {
    pub(crate) fn new(db: MySqlPool, keys: KeyCache, mode: ApiAuth) -> Self {
        Self { db, keys, mode }
    }

    async fn admit(&self, role: Role, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.mode == ApiAuth::Off {
            return Ok(Caller::anybody());
        }
        let token = bearer(headers)?;
        let caller = self
            .keys
            .find(&self.db, token)
            .await?
            .ok_or_else(|| unauthorized("the API key is not known or was revoked"))?;
        if role == Role::Admin && caller.role() != Role::Admin {
            return Err(Problem::new(Kind::Forbidden, "this needs an admin key"));
        }
        Ok(caller)
    }

    /// Returns when this key is revoked by any process. Without a key (`API_AUTH=off`) it never returns.
    pub(crate) async fn revoked(&self, key: Option<ApiKeyId>) {
        self.keys.revoked(&self.db, key).await;
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| unauthorized("send the API key as `Authorization: Bearer <key>`"))?;
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| unauthorized("the Authorization header is not `Bearer <key>`"))?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(unauthorized("the Authorization header is not `Bearer <key>`"));
    }
    Ok(token)
}

/// For a request that waited while its key was revoked.
pub(crate) fn revoked() -> Problem {
    unauthorized("the API key was revoked")
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
}
