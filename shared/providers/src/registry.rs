//! The adapters by the string key of their provider.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use url::Url;

use crate::adapter::{Adapter, AuthMethod};
use crate::connection::{ConnectionConfig, Credentials, FieldError};
use crate::contract::Provider;
use crate::error::{ErrorKind, ProviderError};
use crate::openai::OpenAi;
use crate::operation::Operation;
use crate::protocol::base_url;
use crate::sentralix::Sentralix;
use crate::yandex::Yandex;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("unknown provider type {0:?}")]
    UnknownProvider(String),
    /// Every invalid field at once.
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

    /// Every adapter of this crate.
    pub fn builtin() -> Self {
        Self::empty()
            .with(Arc::new(OpenAi))
            .with(Arc::new(Sentralix))
            .with(Arc::new(Yandex))
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

    /// Scheme, host and port that a connection goes to; `None`: it names none, or none that can be read.
    pub fn origin(&self, config: &ConnectionConfig) -> Option<String> {
        let default = self.adapter(&config.provider_type).ok()?.default_base_url();
        let own = config.base_url.as_deref().map(str::trim);
        let url = own.filter(|url| !url.is_empty()).or(default)?;
        Some(Url::parse(url).ok()?.origin().ascii_serialization())
    }

    /// Checks a connection without opening it: all invalid fields at once, none of them quoting a secret.
    ///
    /// # Errors
    /// [`OpenError::UnknownProvider`], or [`OpenError::Invalid`].
    pub fn validate(&self, config: &ConnectionConfig) -> Result<(), OpenError> {
        let adapter = self.adapter(&config.provider_type)?;
        let mut errors = Vec::new();
        if let Err(error) = base_url(config, adapter.default_base_url()) {
            errors.push(error);
        }
        errors.extend(check_auth(adapter.auth_methods(), config));
        if errors.is_empty() {
            errors = adapter.check(config);
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(OpenError::Invalid(errors))
        }
    }

    /// Checks a connection and builds its client. Sends nothing. A client holds a pool of connections: keep it as long as
    /// the row it was built from stays the same.
    ///
    /// # Errors
    /// As [`Registry::validate`], and [`OpenError::Client`] if the machine can't build a client (no CA certificates, say).
    pub fn open(&self, config: ConnectionConfig) -> Result<Arc<dyn Provider>, OpenError> {
        self.validate(&config)?;
        self.adapter(&config.provider_type)?
            .open(config)
            .map_err(OpenError::Client)
    }
}

fn check_auth(methods: &[AuthMethod], config: &ConnectionConfig) -> Vec<FieldError> {
    let Some(method) = methods.iter().find(|method| method.auth_type == config.auth_type) else {
        let known: Vec<&str> = methods.iter().map(|method| method.auth_type).collect();
        return vec![FieldError::new(
            "auth_type",
            format!("must be one of: {}", known.join(", ")),
        )];
    };
    let given: Vec<&str> = config.credentials.iter().flat_map(Credentials::fields).collect();
    let missing = method.required.iter().filter(|field| !given.contains(field));
    let missing = missing.map(|field| FieldError::new(format!("credentials.{field}"), "is required"));
    let known = |field: &&str| method.required.contains(field) || method.optional.contains(field);
    let unknown = given.iter().filter(|field| !known(field)).map(|field| {
        let fields: Vec<&str> = method.required.iter().chain(method.optional).copied().collect();
        let message = format!("is unknown; {} takes: {}", method.auth_type, fields.join(", "));
        FieldError::new(format!("credentials.{field}"), message)
    });
    missing.chain(unknown).collect()
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.adapters.keys()).finish()
    }
}
