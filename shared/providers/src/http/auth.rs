//! What goes into the `Authorization` header. How a provider's tokens are got is its adapter's matter.

use async_trait::async_trait;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::error::ProviderError;

/// Supplies the `Authorization` header of each try.
#[async_trait]
pub(crate) trait Authorizer: Send + Sync {
    /// `None`: no header.
    async fn header(&self) -> Result<Option<HeaderValue>, ProviderError>;

    /// The provider answered 401. `true`: there is, or can be, another header, and one more try is worth it.
    async fn renew(&self) -> bool;
}

/// A key that never changes.
pub(crate) struct ApiKey {
    header: HeaderValue,
}

impl ApiKey {
    /// `scheme` is `Bearer` or `Api-Key`. `None`: the key holds characters that can't stand in a header.
    pub(crate) fn new(scheme: &str, key: &SecretString) -> Option<Self> {
        Some(Self {
            header: authorization(scheme, key)?,
        })
    }
}

/// The header, marked so that it is not printed.
pub(crate) fn authorization(scheme: &str, secret: &SecretString) -> Option<HeaderValue> {
    let secret = secret.expose_secret().trim();
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("{scheme} {secret}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[async_trait]
impl Authorizer for ApiKey {
    async fn header(&self) -> Result<Option<HeaderValue>, ProviderError> {
        Ok(Some(self.header.clone()))
    }

    async fn renew(&self) -> bool {
        false
    }
}

/// For endpoints that take their proof in the body.
pub(crate) struct NoAuth;

#[async_trait]
impl Authorizer for NoAuth {
    async fn header(&self) -> Result<Option<HeaderValue>, ProviderError> {
        Ok(None)
    }

    async fn renew(&self) -> bool {
        false
    }
}
