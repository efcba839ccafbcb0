//! What an adapter brings: its word, what a connection to it needs, and how to build one.

use std::sync::Arc;

use crate::connection::{ConnectionConfig, FieldError};
use crate::contract::Provider;
use crate::error::ProviderError;

/// One way to authenticate, and the fields it takes from `credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthMethod {
    /// The word for `auth_type`.
    pub auth_type: &'static str,
    pub required: &'static [&'static str],
    pub optional: &'static [&'static str],
}

/// An adapter, as the registry knows it.
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
