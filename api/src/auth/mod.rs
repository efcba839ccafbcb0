//! Who calls: bearer keys with a role and, for service keys, the domains they may name.
//!
//! [`require`] is layered over whole groups of routes, so that no handler can forget it. The key itself is nowhere but
//! with its holder; `rag_api_keys` has its SHA-256 (the key is random, so nothing slower is needed).

mod cache;
mod caller;
mod held;
mod issue;
mod key;
mod revocable;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, header};
use rag_settings::ApiAuth;

pub use cache::KeyCache;
pub(crate) use caller::Caller;
pub use caller::Role;
pub(crate) use issue::{Domains, Request as KeyRequest};
pub use key::{fingerprint, new_key};

use crate::problem::{Kind, Problem};
use crate::state::App;

/// Lets callers through whose key has at least this role, and puts the [`Caller`] into the request's extensions.
pub(crate) async fn require(
    State((app, role)): State<(App, Role)>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&app, role, request.headers()).await {
        Ok(caller) => {
            let key = caller.key();
            if let Some(key) = key {
                tracing::Span::current().record("key.id", key.to_string());
            }
            request.extensions_mut().insert(caller);
            revocable::while_in_force(&app, key, next.run(request).await)
        }
        Err(problem) => problem.into_response(),
    }
}

async fn admit(app: &App, role: Role, headers: &HeaderMap) -> Result<Caller, Problem> {
    if app.settings.api.auth == ApiAuth::Off {
        return Ok(Caller::anybody());
    }
    let token = bearer(headers)?;
    let caller = app
        .keys
        .find(&app.db, token)
        .await?
        .ok_or_else(|| unauthorized("the API key is not known or was revoked"))?;
    if role == Role::Admin && caller.role() != Role::Admin {
        return Err(Problem::new(Kind::Forbidden, "this needs an admin key"));
    }
    Ok(caller)
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

/// To whoever waited while the key was revoked.
pub(crate) fn revoked() -> Problem {
    unauthorized("the API key was revoked")
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
}
