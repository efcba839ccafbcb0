//! What an admin sends of a connection, checked by the provider's own rules and sealed.

use rag_db::connections::{Connection, ConnectionSettings};
use rag_providers::{ConnectionConfig, Credentials, OpenError};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::http::validate::{Checks, present};
use crate::openapi::schemas::CredentialSchema;
use crate::state::App;

/// A connection to make, or to make anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewConnection, example = json!({"auth_type": "api_key", "credentials": {"api_key": "sk-…"}, "is_enabled": true}))]
pub(super) struct ConnectionIn {
    /// null: the provider's own.
    #[schema(example = "https://api.openai.com/v1", max_length = 1024)]
    base_url: Option<String>,
    /// api_key | service_account | oauth | none, as far as the provider knows it.
    #[schema(example = "api_key")]
    auth_type: String,
    /// Write-only. Which fields it has depends on `auth_type`.
    #[schema(value_type = Option<std::collections::HashMap<String, CredentialSchema>>, write_only)]
    credentials: Option<Value>,
    /// Requests a second that all processes together may send; null: as many as the provider takes.
    #[schema(example = 20, minimum = 1, maximum = 10_000)]
    max_requests_per_second: Option<u32>,
    /// Requests that all processes together may have open at the same time; null: any number.
    #[schema(example = 10, minimum = 1, maximum = 1000)]
    max_concurrent_requests: Option<u32>,
    #[serde(default = "yes")]
    #[schema(default = true)]
    is_enabled: bool,
    /// true: nothing but this installation works on the account. Then a file there that has the name, the size and, byte for
    /// byte, the contents of an upload whose answer was lost is taken for that upload. Never say so of an account that another
    /// installation uses, or people.
    #[serde(default)]
    #[schema(default = false)]
    exclusive: bool,
}

/// Fields to change; what is absent stays, null clears.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConnectionPatch {
    /// Stored credentials do not follow to another host: send them again.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 1024)]
    base_url: Option<Option<String>>,
    auth_type: Option<String>,
    /// Write-only.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<std::collections::HashMap<String, CredentialSchema>>, write_only)]
    credentials: Option<Option<Value>>,
    /// Requests a second that all processes together may send; null: as many as the provider takes.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    max_requests_per_second: Option<Option<u32>>,
    /// Requests that all processes together may have open at the same time; null: any number.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrent_requests: Option<Option<u32>>,
    is_enabled: Option<bool>,
    /// As of a new connection. Falls back to false when the host, `auth_type` or credentials change: it was said of another
    /// account.
    exclusive: Option<bool>,
}

const fn yes() -> bool {
    true
}

impl ConnectionIn {
    /// The row to write, if the provider accepts all of it.
    pub(super) fn check(self, app: &App, provider_type: &str) -> Result<ConnectionSettings, Problem> {
        let config = config(
            app,
            provider_type,
            self.base_url.as_deref(),
            &self.auth_type,
            self.credentials.as_ref(),
        )?;
        validate(app, &config, |_| true)?;
        check_limits(self.max_requests_per_second, self.max_concurrent_requests)?;
        Ok(ConnectionSettings {
            provider_type: provider_type.to_owned(),
            base_url: self.base_url,
            auth_type: self.auth_type,
            credentials_enc: self
                .credentials
                .map(|value| seal(app, provider_type, &value))
                .transpose()?,
            max_requests_per_second: self.max_requests_per_second,
            max_concurrent_requests: self.max_concurrent_requests,
            is_enabled: self.is_enabled,
            is_exclusive: self.exclusive,
        })
    }
}

impl ConnectionPatch {
    /// The row as it is to be. Stored credentials stay sealed: they were checked when they came, and whatever would make
    /// them mean something else (another host, another way to authenticate) drops them.
    pub(super) fn check(self, app: &App, row: Connection) -> Result<ConnectionSettings, Problem> {
        let provider_type = row.provider_type.clone();
        let base_url = self.base_url.unwrap_or_else(|| row.base_url.clone());
        let auth_type = self.auth_type.unwrap_or_else(|| row.auth_type.clone());
        let moved = origin(app, &provider_type, base_url.as_deref())
            != origin(app, &provider_type, row.base_url.as_deref());
        let is_other_way = moved || auth_type != row.auth_type;
        let present = if is_other_way { None } else { row.credentials_enc };

        let sent = self.credentials;
        let stays = !is_other_way && sent.is_none();
        let is_exclusive = self.exclusive.unwrap_or(stays && row.is_exclusive);
        let given = sent.as_ref().and_then(Option::as_ref);
        let config = config(app, &provider_type, base_url.as_deref(), &auth_type, given)?;
        let stays_sealed = sent.is_none() && present.is_some();
        validate(app, &config, |field| {
            !(stays_sealed && field.starts_with("credentials"))
        })?;
        let credentials_enc = match sent {
            Some(sent) => sent.map(|value| seal(app, &provider_type, &value)).transpose()?,
            None => present.map(|sealed| sealed_anew(app, &provider_type, sealed)),
        };
        let max_requests_per_second = self
            .max_requests_per_second
            .unwrap_or(row.max_requests_per_second);
        let max_concurrent_requests = self
            .max_concurrent_requests
            .unwrap_or(row.max_concurrent_requests);
        check_limits(max_requests_per_second, max_concurrent_requests)?;
        let is_enabled = self.is_enabled.unwrap_or(row.is_enabled);
        Ok(ConnectionSettings {
            provider_type,
            base_url,
            auth_type,
            credentials_enc,
            max_requests_per_second,
            max_concurrent_requests,
            is_enabled,
            is_exclusive,
        })
    }
}

fn check_limits(per_second: Option<u32>, concurrent: Option<u32>) -> Result<(), Problem> {
    let limits = [
        ("max_requests_per_second", per_second, 10_000),
        ("max_concurrent_requests", concurrent, 1000),
    ];
    let mut checks = Checks::default();
    for (field, limit, max) in limits {
        if limit.is_some_and(|limit| !(1..=max).contains(&limit)) {
            checks.fail(field, format!("must be 1 to {max}"));
        }
    }
    checks.finish()
}

fn config(
    app: &App,
    provider_type: &str,
    base_url: Option<&str>,
    auth_type: &str,
    credentials: Option<&Value>,
) -> Result<ConnectionConfig, Problem> {
    let mut checks = Checks::default();
    if base_url.is_some_and(|url| url.len() > 1024) {
        checks.fail("base_url", "must not be longer than 1024 bytes");
    }
    let mut config = ConnectionConfig::new(provider_type, auth_type);
    config.network = app.connections.network();
    config.base_url = base_url.map(str::to_owned);
    match credentials.map(Credentials::from_value).transpose() {
        Ok(credentials) => config.credentials = credentials,
        Err(error) => checks.fail(error.field, error.message),
    }
    app.connections.complete(&mut config);
    checks.finish()?;
    Ok(config)
}

fn validate(app: &App, config: &ConnectionConfig, counts: impl Fn(&str) -> bool) -> Result<(), Problem> {
    let errors = match app.connections.registry().validate(config) {
        Ok(()) => return Ok(()),
        Err(OpenError::Invalid(errors)) => errors,
        Err(OpenError::UnknownProvider(_)) => return Err(Problem::not_found("provider type")),
        Err(error @ OpenError::Client(_)) => return Err(Problem::internal(error)),
    };
    let withheld = app.connections.withheld(config);
    let mut checks = Checks::default();
    for error in errors.into_iter().filter(|error| counts(&error.field)) {
        let message = match &withheld {
            Some(why) if error.field.starts_with("credentials") => format!("{}; {why}", error.message),
            _ => error.message,
        };
        checks.fail(error.field, message);
    }
    checks.finish()
}

fn seal(app: &App, provider_type: &str, credentials: &Value) -> Result<Value, Problem> {
    let keyring = app.connections.keyring().ok_or_else(|| {
        Problem::conflict("credentials cannot be stored: PROVIDER_SECRETS_KEY is not set for this service")
    })?;
    keyring
        .seal_json(provider_type, "credentials_enc", credentials)
        .map_err(Problem::internal)
}

/// What another key or the service's predecessor sealed is sealed with the first key whenever the row is written. What does
/// not open stays as it is: a connection can be switched off without repairing it first.
fn sealed_anew(app: &App, provider_type: &str, sealed: Value) -> Value {
    const COLUMN: &str = "credentials_enc";
    let Some(keyring) = app.connections.keyring().filter(|ring| !ring.is_current(&sealed)) else {
        return sealed;
    };
    let plaintext = keyring.open(provider_type, COLUMN, &sealed);
    plaintext
        .and_then(|plaintext| keyring.seal(provider_type, COLUMN, &plaintext))
        .unwrap_or(sealed)
}

/// Scheme, host and port that the connection talks to.
fn origin(app: &App, provider_type: &str, base_url: Option<&str>) -> Option<String> {
    let mut config = ConnectionConfig::new(provider_type, "");
    config.base_url = base_url.map(str::to_owned);
    app.connections.registry().origin(&config)
}
