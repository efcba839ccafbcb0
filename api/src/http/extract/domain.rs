//! `X-Domain-Id`: whose data the request is about.

use axum::extract::FromRequestParts;
use http::HeaderName;
use http::request::Parts;
use rag_domain::DomainId;

use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};

pub(crate) const X_DOMAIN_ID: HeaderName = HeaderName::from_static("x-domain-id");

/// The request's domain, which the caller's key may name.
#[derive(Debug, Clone)]
pub(crate) struct Domain(pub(crate) DomainId);

impl<S: Sync> FromRequestParts<S> for Domain {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(X_DOMAIN_ID).iter();
        let value = values
            .next()
            .ok_or_else(|| invalid("the header X-Domain-Id is missing"))?;
        if values.next().is_some() {
            // With two tenants in one request, a proxy might check one and we use the other.
            return Err(invalid("the header X-Domain-Id is there more than once"));
        }
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| invalid("X-Domain-Id is not UTF-8"))?;
        let domain = DomainId::try_from(text.to_owned()).map_err(|error| invalid(error.to_string()))?;
        // Every route with a domain is behind `auth::require`, which put the caller there.
        let caller = parts
            .extensions
            .get::<Caller>()
            .ok_or_else(|| Problem::new(Kind::Unauthorized, "the request carries no API key"))?;
        if !caller.may_name(&domain) {
            return Err(Problem::new(
                Kind::Forbidden,
                "this API key is not for this domain",
            ));
        }
        Ok(Self(domain))
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::InvalidDomain, detail)
}
