//! Making keys: one set of rules for the command line and for the admin API.

use rag_db::{DbError, api_keys};
use rag_domain::{ApiKeyId, DomainId};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::MySqlConnection;

use super::caller::Role;
use super::key::{fingerprint, new_key};
use crate::http::validate::Checks;

const NAME_CHARS: usize = 128;
const DOMAINS: usize = 1000;

/// Domains that a key may name: `"all"`, or an array of them. An empty one is a key for no domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be \"all\" or an array of domains")]
pub(crate) enum Domains {
    All(Every),
    Only(Vec<String>),
}

/// The word for all domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Every {
    #[serde(rename = "all")]
    Domain,
}

impl Domains {
    pub(crate) const ALL: Self = Self::All(Every::Domain);

    /// From a row, where NULL means all.
    pub(crate) fn of_row(row: Option<Vec<String>>) -> Self {
        row.map_or(Self::ALL, Self::Only)
    }

    fn named(&self) -> Option<&[String]> {
        match self {
            Self::All(Every::Domain) => None,
            Self::Only(domains) => Some(domains),
        }
    }
}

/// A key to make.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Required of a service key; an admin key is for all.
    pub(crate) domains: Option<Domains>,
}

impl Request {
    pub(crate) fn check(&self, checks: &mut Checks) {
        checks.line("name", &self.name, NAME_CHARS);
        if self.role == Role::Service && self.domains.is_none() {
            checks.fail("domains", "name the domains that the key is for, or say \"all\"");
        }
        let named = self.named();
        if self.role == Role::Admin && named.is_some() {
            checks.fail(
                "domains",
                "an admin key is for every domain: leave them out, or make a service key",
            );
        }
        let named = named.unwrap_or_default();
        if named.len() > DOMAINS {
            checks.fail("domains", format!("must not have more than {DOMAINS} entries"));
        }
        for (at, domain) in named.iter().enumerate() {
            if let Err(error) = DomainId::try_from(domain.clone()) {
                checks.fail(format!("domains[{at}]"), error.to_string());
            }
        }
    }

    /// Makes the key, which is shown once and stored nowhere. The request has passed [`check`](Self::check).
    pub(crate) async fn issue(&self, db: &mut MySqlConnection) -> Result<(ApiKeyId, SecretString), DbError> {
        let (id, key) = (ApiKeyId::new(), new_key());
        let hash = fingerprint(key.expose_secret());
        api_keys::insert(db, id, &self.name, self.role.as_str(), self.named(), &hash).await?;
        Ok((id, key))
    }

    fn named(&self) -> Option<&[String]> {
        self.domains.as_ref().and_then(Domains::named)
    }
}
