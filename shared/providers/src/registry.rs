//! From the string key of a provider to its adapter. The registry knows the adapters' list and nothing about them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::connection::{ConnectionConfig, FieldError};
use crate::contract::Provider;
use crate::error::{ErrorKind, Operation, ProviderError};

/// One way to authenticate, and the fields it takes from `credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthMethod {
    /// The word for `auth_type`.
    pub auth_type: &'static str,
    pub required: &'static [&'static str],
    pub optional: &'static [&'static str],
}

/// What an adapter brings to the registry: its word, what a connection to it needs, and how to build one.
pub trait Adapter: Send + Sync {
    /// The registry key, and the id of the connection's row.
    fn provider_type(&self) -> &'static str;

    /// Used when a connection names none; `None`: the connection must name one.
    fn default_base_url(&self) -> Option<&'static str>;

    fn auth_methods(&self) -> &'static [AuthMethod];

    /// Checks beyond the common ones (base URL, auth type, required fields): the form of a key, say. Only called when the
    /// common ones passed.
    fn check(&self, config: &ConnectionConfig) -> Vec<FieldError>;

    /// Builds the client of a connection that passed all checks. Sends nothing.
    fn open(&self, config: ConnectionConfig) -> Result<Arc<dyn Provider>, ProviderError>;
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("unknown provider type {0:?}")]
    UnknownProvider(String),
    /// Every mistake at once.
    #[error("the connection is not valid: {}", joined(.0))]
    Invalid(Vec<FieldError>),
    #[error("the client could not be built")]
    Client(#[source] ProviderError),
}

fn joined(errors: &[FieldError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// For callers that treat an unusable connection as any other provider error.
impl From<OpenError> for ProviderError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Client(error) => error,
            other => Self::new(ErrorKind::Disabled, Operation::Connect, other.to_string()),
        }
    }
}

/// The adapters by their key.
#[derive(Clone)]
pub struct Registry {
    adapters: BTreeMap<&'static str, Arc<dyn Adapter>>,
}

impl Registry {
    /// No adapter at all; for composing one's own set with [`Registry::with`].
    pub fn empty() -> Self {
        Self {
            adapters: BTreeMap::new(),
        }
    }

    /// Adds an adapter, or replaces the one with the same key.
    #[must_use]
    pub fn with(mut self, adapter: Arc<dyn Adapter>) -> Self {
        self.adapters.insert(adapter.provider_type(), adapter);
        self
    }

    /// The known keys, sorted.
    pub fn provider_types(&self) -> impl Iterator<Item = &'static str> {
        self.adapters.keys().copied()
    }

    pub fn contains(&self, provider_type: &str) -> bool {
        self.adapters.contains_key(provider_type)
    }

    /// The adapter's own description of what it needs.
    ///
    /// # Errors
    /// [`OpenError::UnknownProvider`].
    pub fn adapter(&self, provider_type: &str) -> Result<&dyn Adapter, OpenError> {
        self.adapters
            .get(provider_type)
            .map(AsRef::as_ref)
            .ok_or_else(|| OpenError::UnknownProvider(provider_type.to_owned()))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.adapters.keys()).finish()
    }
}
