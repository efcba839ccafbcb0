//! Making keys: one set of rules for the command line and for the admin API.

use rag_db::{DbError, api_keys};
use rag_domain::{ApiKeyId, DomainId};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::MySqlConnection;

use super::caller::Role;
use super::key::{fingerprint, new_key};
use crate::validate::Checks;

const NAME_CHARS: usize = 128;
const DOMAINS: usize = 1000;

/// A key to make.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// That a service key may name; empty: every domain.
    pub(crate) domains: Vec<String>,
}

impl Request {
    pub(crate) fn check(&self, checks: &mut Checks) {
        checks.line("name", &self.name, NAME_CHARS);
        if self.role == Role::Admin && !self.domains.is_empty() {
            checks.fail(
                "domains",
                "an admin key is for every domain: leave them out, or make a service key",
            );
        }
        if self.domains.len() > DOMAINS {
            checks.fail("domains", format!("must not have more than {DOMAINS} entries"));
        }
        for (at, domain) in self.domains.iter().enumerate() {
            if let Err(error) = DomainId::try_from(domain.clone()) {
                checks.fail(format!("domains[{at}]"), error.to_string());
            }
        }
    }

    /// The key, which is shown once and stored nowhere. The request has passed [`check`](Self::check).
    pub(crate) async fn issue(&self, db: &mut MySqlConnection) -> Result<(ApiKeyId, SecretString), DbError> {
        let (id, key) = (ApiKeyId::new(), new_key());
        let domains = (!self.domains.is_empty()).then_some(&self.domains[..]);
        let hash = fingerprint(key.expose_secret());
        api_keys::insert(db, id, &self.name, self.role.as_str(), domains, &hash).await?;
        Ok((id, key))
    }
}
