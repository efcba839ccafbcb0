//! What a key allows.

use std::sync::Arc;

use rag_domain::{ApiKeyId, DomainId};

/// `rag_api_keys.role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The service's callers: files, indexes, jobs.
    Service,
    /// All that, and the connections to providers.
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Service, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// The holder of the request's key.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    key: Option<ApiKeyId>,
    role: Role,
    /// `None`: any.
    domains: Option<Arc<[String]>>,
}

impl Caller {
    pub(crate) fn new(key: ApiKeyId, role: Role, domains: Option<Vec<String>>) -> Self {
        Self {
            key: Some(key),
            role,
            domains: domains.map(Arc::from),
        }
    }

    /// With authentication switched off.
    pub(crate) fn anybody() -> Self {
        Self {
            key: None,
            role: Role::Admin,
            domains: None,
        }
    }

    pub(crate) fn key(&self) -> Option<ApiKeyId> {
        self.key
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn may_name(&self, domain: &DomainId) -> bool {
        self.domains
            .as_ref()
            .is_none_or(|domains| domains.iter().any(|allowed| allowed == domain.as_str()))
    }
}
