//! What it takes to open a connection: the stored row in decrypted form, the network rules, the timeouts, and the two hooks
//! through which a connection reaches the fleet's shared state without knowing the database.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::error::{Exhaustion, ProviderError};
use crate::operation::Operation;

/// The decrypted credentials of a connection: a flat JSON object. Which fields count is each adapter's matter.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, SecretString>);

impl Credentials {
    /// Reads a JSON object. Strings are taken as they are, objects (a service account key pasted whole) as their JSON text,
    /// nulls and empty strings as absent.
    ///
    /// # Errors
    /// A value that is not an object, or a field that is a number, boolean or array; never quotes the value.
    pub fn from_value(value: &Value) -> Result<Self, FieldError> {
        let Value::Object(object) = value else {
            return Err(FieldError::new("credentials", "must be a JSON object"));
        };
        let mut fields = BTreeMap::new();
        for (name, field) in object {
            let text = match field {
                Value::Null => continue,
                Value::String(text) if text.trim().is_empty() => continue,
                Value::String(text) => text.clone(),
                Value::Object(_) => field.to_string(),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                    return Err(FieldError::new(format!("credentials.{name}"), "must be a string"));
                }
            };
            fields.insert(name.clone(), SecretString::from(text));
        }
        Ok(Self(fields))
    }

    /// One API key and nothing else.
    pub fn api_key(key: &str) -> Self {
        Self::default().with("api_key", key)
    }

    #[must_use]
    pub fn with(mut self, field: &str, value: &str) -> Self {
        self.0.insert(field.to_owned(), SecretString::from(value));
        self
    }

    pub fn get(&self, field: &str) -> Option<&SecretString> {
        self.0.get(field)
    }

    /// Names of the fields present, for validation.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Every value, for redaction.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(ExposeSecret::expose_secret)
    }
}

/// Names of the fields, never their values.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Which destinations a connection may have. The default allows public `https` only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// `http` and loopback addresses: for the demo, tests, and a provider on the same machine.
    pub allow_http_loopback: bool,
    /// Private address ranges (10/8, 172.16/12, 192.168/16, fc00::/7, 100.64/10). Link-local addresses, where cloud metadata
    /// lives, stay forbidden.
    pub allow_private: bool,
}

/// How long to wait. A try that exceeds its time ends with `Timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Resolving, connecting and the TLS handshake.
    pub connect: Duration,
    /// One try of an ordinary call, answer included.
    pub per_try: Duration,
    /// An ordinary call with its retries and waits.
    pub whole_call: Duration,
    /// Uploads and downloads have no total; they fail when this long nothing worth mentioning moves.
    pub stall: Duration,
    /// From the last byte of an upload to its answer.
    pub upload_answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            per_try: Duration::from_secs(30),
            whole_call: Duration::from_secs(90),
            stall: Duration::from_secs(30),
            upload_answer: Duration::from_mins(2),
        }
    }
}

/// A connection to open.
#[derive(Clone)]
pub struct ConnectionConfig {
    /// Registry key, and the id of the connection's row.
    pub provider_type: String,
    /// Overrides the provider's own; without a path such as `/v1` the provider's is not added.
    pub base_url: Option<String>,
    /// Overrides where the provider's access tokens are got (Yandex IAM). Checked as `base_url` is.
    pub token_url: Option<String>,
    /// `api_key`, `service_account`, `none`, …: each adapter names those it takes.
    pub auth_type: String,
    pub credentials: Option<Credentials>,
    pub network: NetworkPolicy,
    pub timeouts: Timeouts,
    /// Where short-lived access tokens are shared; without it each process gets its own.
    pub tokens: Option<Arc<dyn TokenStore>>,
    /// The fleet's budget for requests; without it nothing is held back.
    pub budget: Option<Arc<dyn RequestBudget>>,
}

impl ConnectionConfig {
    /// A connection with default network rules and timeouts, and neither credentials nor hooks.
    pub fn new(provider_type: impl Into<String>, auth_type: impl Into<String>) -> Self {
        Self {
            provider_type: provider_type.into(),
            base_url: None,
            token_url: None,
            auth_type: auth_type.into(),
            credentials: None,
            network: NetworkPolicy::default(),
            timeouts: Timeouts::default(),
            tokens: None,
            budget: None,
        }
    }
}

impl fmt::Debug for ConnectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionConfig")
            .field("provider_type", &self.provider_type)
            .field("auth_type", &self.auth_type)
            .field("credentials", &self.credentials)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// What is wrong with one field of a connection. `field` is a JSON path (`base_url`, `credentials.api_key`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// A short-lived access token.
#[derive(Clone)]
pub struct StoredToken {
    pub token: SecretString,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

impl StoredToken {
    /// The JSON to seal into `token_enc`. Holds the token in clear.
    pub fn to_value(&self) -> Value {
        json!({
            "token": self.token.expose_secret(),
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
        })
    }

    /// Reads what [`StoredToken::to_value`] made. `None`: it is something else (another program's state, say).
    pub fn from_value(value: &Value) -> Option<Self> {
        let time = |name: &str| {
            let time = DateTime::parse_from_rfc3339(value.get(name)?.as_str()?).ok()?;
            Some(time.with_timezone(&Utc))
        };
        Some(Self {
            token: SecretString::from(value.get("token")?.as_str()?),
            issued_at: time("issued_at")?,
            expires_at: time("expires_at")?,
        })
    }
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The shared state behind a hook could not be reached. The connection then works on without it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct HookError(pub String);

/// Where the processes of a fleet share an access token (`token_enc` and `token_expires_at` of the connection's row). The
/// connection is single-flight within its process; `lease` makes it so across processes.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// The stored token, expired or not; but none that was got with other credentials than the connection has now.
    async fn load(&self) -> Result<Option<StoredToken>, HookError>;

    /// Stores a fresh token, and ends the lease.
    async fn save(&self, token: &StoredToken) -> Result<(), HookError>;

    /// Tries to become the one that refreshes, for at most `ttl`. `false`: another process is doing so; ask again soon.
    async fn lease(&self, ttl: Duration) -> Result<bool, HookError>;
}

/// No request may be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRefused {
    pub retry_after: Duration,
    pub reason: Refusal,
}

/// Why no request may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The fleet sends as many requests as it may.
    Rate,
    /// The account is exhausted.
    Exhausted(Exhausted),
    /// The stored connection is not the one that this client was opened with: it was switched off, changed or deleted
    /// since. The text says which.
    ConnectionChanged(String),
}

impl BudgetRefused {
    /// The rate is used up for so long.
    pub fn rate(retry_after: Duration) -> Self {
        Self {
            retry_after,
            reason: Refusal::Rate,
        }
    }
}

/// An account of which the provider has said that it is exhausted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    pub what: Exhaustion,
    /// The provider's words.
    pub reason: String,
    pub since: DateTime<Utc>,
    /// When one request of the fleet tries again.
    pub next_try_at: DateTime<Utc>,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: &DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        write!(
            f,
            "{} since {}: {}; next try at {}",
            self.what,
            time(&self.since),
            self.reason,
            time(&self.next_try_at)
        )
    }
}

/// The right to have one request open; it ends with this value, which lives until the answer has been read.
pub struct Permit {
    _slot: Option<Box<dyn Any + Send + Sync>>,
}

impl Permit {
    /// A permit without a slot.
    pub fn free() -> Self {
        Self { _slot: None }
    }

    /// Releases `slot` by dropping it.
    pub fn holding(slot: impl Any + Send + Sync) -> Self {
        Self {
            _slot: Some(Box::new(slot)),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// The fleet's budget for requests to one connection. Asked before every try; an implementation may wait a moment, but a long
/// wait should be a refusal, which goes back to the caller as `RateLimited` with effect `None`.
#[async_trait]
pub trait RequestBudget: Send + Sync {
    /// Takes one request out of the budget. Refuses if the connection was switched off, changed or deleted before this was
    /// asked.
    async fn acquire(&self, operation: Operation) -> Result<Permit, BudgetRefused>;

    /// The provider answered 429 (with its `Retry-After`, if any): everybody should back off. Answers for how long, if that
    /// is known; without a hint of the provider's this is what the caller waits for.
    async fn rate_limited(&self, operation: Operation, retry_after: Option<Duration>) -> Option<Duration>;

    /// The provider does not let this connection in, or its account is exhausted: its operator should know.
    async fn refused(&self, error: &ProviderError);

    /// The provider carried a call out: whatever it refused before, it lets the connection in now.
    async fn accepted(&self, operation: Operation);
}
