//! The fleet's shared access token: sealed in `token_enc` of the connection's row, got by one process at a time.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use rag_db::connections;
use rag_providers::{Credentials, HookError, StoredToken, TokenStore};
use rag_secrets::Keyring;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::MySqlPool;

const COLUMN: &str = "token_enc";

/// The row of one connection, for the processes that have these credentials.
pub(crate) struct RowTokens {
    pool: MySqlPool,
    keyring: Keyring,
    provider_type: String,
    /// Of the credentials. A token that was requested with other credentials is not used.
    fingerprint: String,
}

impl RowTokens {
    pub(crate) fn new(
        pool: MySqlPool,
        keyring: Keyring,
        provider_type: &str,
        credentials: &Credentials,
    ) -> Self {
        Self {
            pool,
            keyring,
            provider_type: provider_type.to_owned(),
            fingerprint: fingerprint(credentials),
        }
    }
}

fn fingerprint(credentials: &Credentials) -> String {
    let mut hash = Sha256::new();
    for name in credentials.fields() {
        let value = credentials
            .get(name)
            .map(ExposeSecret::expose_secret)
            .unwrap_or_default();
        for part in [name, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

fn failed(error: impl fmt::Display) -> HookError {
    HookError(error.to_string())
}

#[async_trait]
impl TokenStore for RowTokens {
    async fn load(&self) -> Result<Option<StoredToken>, HookError> {
        let mut db = self.pool.acquire().await.map_err(failed)?;
        let sealed = connections::find_token(&mut db, &self.provider_type)
            .await
            .map_err(failed)?;
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let value = self
            .keyring
            .open_json(&self.provider_type, COLUMN, &sealed)
            .map_err(failed)?;
        if value.get("for").and_then(Value::as_str) != Some(&self.fingerprint) {
            return Ok(None);
        }
        Ok(value.get("token").and_then(StoredToken::from_value))
    }

    async fn save(&self, token: &StoredToken) -> Result<(), HookError> {
        let value = json!({"for": self.fingerprint, "token": token.to_value()});
        let sealed = self
            .keyring
            .seal_json(&self.provider_type, COLUMN, &value)
            .map_err(failed)?;
        let mut db = self.pool.acquire().await.map_err(failed)?;
        connections::save_token(&mut db, &self.provider_type, &sealed, token.expires_at)
            .await
            .map_err(failed)
    }

    async fn lease(&self, ttl: Duration) -> Result<bool, HookError> {
        let mut db = self.pool.acquire().await.map_err(failed)?;
        connections::lease_token(&mut db, &self.provider_type, ttl)
            .await
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_credentials_have_another_fingerprint() {
        let one = Credentials::api_key("a").with("folder_id", "f");
        assert_eq!(fingerprint(&one), fingerprint(&one.clone()));
        assert_ne!(
            fingerprint(&one),
            fingerprint(&Credentials::api_key("b").with("folder_id", "f"))
        );
        assert_ne!(fingerprint(&one), fingerprint(&Credentials::api_key("a")));
    }
}
