//! Caches keys, so that a busy caller costs one query per [`TTL`] and not one per request.

use std::time::Duration;

use moka::sync::Cache;
use rag_db::{DbError, api_keys};
use rag_domain::ApiKeyId;
use sqlx::MySqlPool;
use subtle::ConstantTimeEq as _;

use super::caller::{Caller, Role};
use super::held::HeldKeys;
use super::key::fingerprint;

/// How long a revoked key may still be accepted, except by the process that revoked it.
const TTL: Duration = Duration::from_secs(10);
const MAX_CACHED: u64 = 10_000;

/// Only keys that exist are cached: guesses cannot fill it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyCache {
    callers: Cache<String, Caller>,
    held: HeldKeys,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self {
            callers: Cache::builder()
                .time_to_live(TTL)
                .max_capacity(MAX_CACHED)
                .build(),
            held: HeldKeys::default(),
        }
    }
}

impl KeyCache {
    /// The holder of this key, unless there is none in force.
    pub(crate) async fn find(&self, db: &MySqlPool, key: &str) -> Result<Option<Caller>, DbError> {
        let fingerprint = fingerprint(key);
        if let Some(caller) = self.callers.get(&fingerprint) {
            return Ok(Some(caller));
        }
        let mut connection = db.acquire().await?;
        let Some(row) = api_keys::find_by_hash(&mut connection, &fingerprint).await? else {
            return Ok(None);
        };
        // The row was found through an index on the hash; this constant-time comparison decides.
        if !bool::from(row.key_sha256.as_bytes().ct_eq(fingerprint.as_bytes())) {
            return Ok(None);
        }
        let Some(role) = Role::parse(&row.role) else {
            tracing::warn!(key.id = %row.id, role = row.role, "the API key has an unknown role and is refused");
            return Ok(None);
        };
        // An admin key is for every domain.
        let domains = row.domains.filter(|_| role == Role::Service);
        let caller = Caller::new(row.id, role, domains);
        self.callers.insert(fingerprint, caller.clone());
        Ok(Some(caller))
    }

    /// Stops accepting this key in this process.
    pub(crate) fn forget(&self, key: ApiKeyId) {
        for (fingerprint, caller) in &self.callers {
            if caller.key() == Some(key) {
                self.callers.invalidate(&*fingerprint);
            }
        }
        self.held.revoke(key);
    }

    /// Returns when this key is revoked by any process. Without a key (`API_AUTH=off`) it never returns.
    pub(crate) async fn revoked(&self, db: &MySqlPool, key: Option<ApiKeyId>) {
        match key {
            Some(key) => self.held.revoked(db, key).await,
            None => std::future::pending().await,
        }
    }
}
