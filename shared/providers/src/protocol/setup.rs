//! What adapters of the dialect share when they build their client.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use url::Url;

use crate::connection::{ConnectionConfig, Credentials, FieldError};
use crate::error::{ErrorKind, ProviderError};
use crate::http::guard::check_base_url;
use crate::http::transport::TransportConfig;
use crate::http::{ApiKey, Authorizer, Redactor, Transport};
use crate::operation::Operation;

/// The connection's base URL, else the provider's own, checked.
pub(crate) fn base_url(config: &ConnectionConfig, default: Option<&str>) -> Result<Url, FieldError> {
    match config
        .base_url
        .as_deref()
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .or(default)
    {
        Some(url) => check_base_url(url, config.network),
        None => Err(FieldError::new("base_url", "is required for this provider")),
    }
}

/// Credentials that end up in a header must fit into one.
pub(crate) fn check_sendable(config: &ConnectionConfig, fields: &[&str]) -> Vec<FieldError> {
    let Some(credentials) = &config.credentials else {
        return Vec::new();
    };
    let unsendable = |field: &&&str| {
        let value = credentials.get(field).map(|value| value.expose_secret().trim());
        value.is_some_and(|value| !value.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    let error = |field: &&str| {
        FieldError::new(
            format!("credentials.{field}"),
            "may only hold visible ASCII characters",
        )
    };
    fields.iter().filter(unsendable).map(error).collect()
}

/// A transport with the connection's settings.
pub(crate) fn transport(
    config: ConnectionConfig,
    default_base_url: Option<&str>,
    provider_type: &'static str,
    headers: HeaderMap,
    auth: Arc<dyn Authorizer>,
) -> Result<Transport, ProviderError> {
    let base_url = base_url(&config, default_base_url).map_err(|error| unusable(error.to_string()))?;
    let redactor = config
        .credentials
        .as_ref()
        .map(|credentials| Redactor::new(credentials.values()));
    Transport::new(TransportConfig {
        provider_type,
        base_url,
        network: config.network,
        timeouts: config.timeouts,
        headers,
        auth,
        budget: config.budget,
        redactor: redactor.unwrap_or_default(),
    })
}

/// A transport that sends `api_key` as a bearer token, and organization and project if they are given.
pub(crate) fn bearer_transport(
    config: ConnectionConfig,
    default_base_url: Option<&str>,
    provider_type: &'static str,
) -> Result<Transport, ProviderError> {
    let credentials = config.credentials.clone().unwrap_or_default();
    let key = credentials
        .get("api_key")
        .and_then(|key| ApiKey::new("Bearer", key));
    let key = key.ok_or_else(|| unusable("credentials.api_key is missing or can't be sent"))?;
    let headers = organization_headers(&credentials)?;
    transport(config, default_base_url, provider_type, headers, Arc::new(key))
}

fn organization_headers(credentials: &Credentials) -> Result<HeaderMap, ProviderError> {
    let mut headers = HeaderMap::new();
    for (field, header) in [
        ("organization", "openai-organization"),
        ("project", "openai-project"),
    ] {
        if let Some(value) = credentials.get(field) {
            let value = HeaderValue::from_str(value.expose_secret().trim())
                .map_err(|_| unusable(format!("credentials.{field} can't be sent")))?;
            headers.insert(header, value);
        }
    }
    Ok(headers)
}

/// The connection can't be used as it is configured.
pub(crate) fn unusable(message: impl Into<Box<str>>) -> ProviderError {
    ProviderError::new(ErrorKind::Disabled, Operation::Connect, message)
}
