//! Opens a provider from its stored connection row. Credentials are unsealed here alone.
//!
//! `rag-db` knows rows and no providers, `rag-providers` knows providers and no rows; this crate is where they meet, for the
//! API (health, search, listings) and the worker (everything else). It also keeps what a fleet's processes share about a
//! connection: its access token and its request budget; and what a process's builds share, and its syncs: their throttles.

mod budget;
mod fallback;
mod learned;
mod restraint;
mod revision;
mod slots;
mod throttle;
mod tokens;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_db::DbError;
use rag_db::connections::{self, Connection};
use rag_providers::{ConnectionConfig, Credentials, Exhausted, NetworkPolicy, OpenError, Provider, Registry};
use rag_secrets::{Keyring, KeyringError};
use rag_settings::ProviderSettings;
use secrecy::ExposeSecret as _;
use sqlx::{MySqlConnection, MySqlPool};

use budget::FleetBudget;
use fallback::Fallback;
use tokens::RowTokens;

pub use learned::Learned;
pub use revision::until_noticed;
pub use throttle::{Entry, Throttle};

/// The state of a connection whose account is exhausted, while the next try is not due yet: what would be sent to bring
/// something there would be refused unsent. With the time until that try.
pub async fn find_exhausted(
    db: &mut MySqlConnection,
    provider_type: &str,
) -> Result<Option<(Exhausted, Duration)>, DbError> {
    restraint::find_waiting(db, provider_type).await
}

/// Opens providers, and keeps them open as long as their row stays as it is.
#[derive(Debug)]
pub struct Connections {
    registry: Registry,
    /// `None`: no `PROVIDER_SECRETS_KEY` is set; connections without credentials work all the same.
    keyring: Option<Keyring>,
    network: NetworkPolicy,
    fallback: Fallback,
    /// For what a fleet's processes share; `None`: this process is on its own.
    pool: Option<MySqlPool>,
    open: Mutex<HashMap<String, Kept>>,
    /// A changed connection keeps its throttle.
    throttles: Throttles,
    sync_throttles: Throttles,
}

/// By provider type.
type Throttles = Mutex<HashMap<String, Arc<Throttle>>>;

/// An open client.
#[derive(Debug, Clone)]
struct Kept {
    /// Of the row that it was built from.
    version: DateTime<Utc>,
    provider: Arc<dyn Provider>,
    /// Whether the row has a `last_error`, as far as this process knows: the next call that succeeds clears it.
    troubled: Arc<AtomicBool>,
}

/// Why a provider can't be used now.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("there is no connection to provider `{0}`")]
    Missing(String),
    #[error("the connection to provider `{0}` is switched off")]
    SwitchedOff(String),
    /// Configuration, credentials or the key that they are sealed with; also recorded in the row's `last_error`.
    #[error("the connection to provider `{provider}` can't be used: {reason}")]
    Unusable { provider: String, reason: String },
    #[error("the connection could not be read")]
    Database(#[from] DbError),
}

impl Connections {
    pub fn new(registry: Registry, keyring: Option<Keyring>, network: NetworkPolicy) -> Self {
        Self {
            registry,
            keyring,
            network,
            fallback: Fallback::default(),
            pool: None,
            open: Mutex::default(),
            throttles: Mutex::default(),
            sync_throttles: Mutex::default(),
        }
    }

    /// As the environment says; tokens and request budgets are shared through this database.
    ///
    /// # Errors
    /// `PROVIDER_SECRETS_KEY` is not usable.
    pub fn from_settings(settings: &ProviderSettings, pool: MySqlPool) -> Result<Self, KeyringError> {
        let keyring = settings
            .secrets_key
            .as_ref()
            .map(|keys| Keyring::from_setting(keys.expose_secret()))
            .transpose()?;
        let network = NetworkPolicy {
            allow_http_loopback: settings.allow_loopback_http,
            allow_private: settings.allow_private_addresses,
        };
        Ok(Self {
            fallback: Fallback::from(settings),
            pool: Some(pool),
            ..Self::new(Registry::builtin(), keyring, network)
        })
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_ref()
    }

    /// The network rules that every connection is opened with.
    pub fn network(&self) -> NetworkPolicy {
        self.network
    }

    /// Adds what the environment supplies where a connection leaves it out, and goes where that may go.
    pub fn complete(&self, config: &mut ConnectionConfig) {
        let origin = self.registry.origin(config);
        self.fallback.complete(config, origin.as_deref());
    }

    /// Why the environment's credentials are not given to a connection that has none.
    pub fn withheld(&self, config: &ConnectionConfig) -> Option<String> {
        self.fallback
            .withheld(config, self.registry.origin(config).as_deref())
    }

    /// The provider of this type, if its connection exists, is switched on and can be opened.
    ///
    /// The row is read every time, so that switching a connection off works at once; the client is kept. A client that is at
    /// work when its row changes refuses its next call (`revision`).
    pub async fn open(
        &self,
        db: &mut MySqlConnection,
        provider_type: &str,
    ) -> Result<Arc<dyn Provider>, ConnectError> {
        Ok(self.open_learned(db, provider_type).await?.0)
    }

    /// As [`open`](Self::open), with what the connection was seen to do so far.
    pub async fn open_learned(
        &self,
        db: &mut MySqlConnection,
        provider_type: &str,
    ) -> Result<(Arc<dyn Provider>, Learned), ConnectError> {
        let row = connections::find(db, provider_type).await?;
        let row = row.ok_or_else(|| ConnectError::Missing(provider_type.to_owned()))?;
        if !row.is_enabled {
            return Err(ConnectError::SwitchedOff(row.provider_type));
        }
        let learned = Learned::from(&row);
        if let Some(provider) = self.kept(&row) {
            return Ok((provider, learned));
        }
        match self.build(&row) {
            Ok(kept) => {
                let provider = Arc::clone(&kept.provider);
                self.keep(&row, kept);
                Ok((provider, learned))
            }
            Err(reason) => {
                tracing::error!(
                    provider = provider_type,
                    reason,
                    "the provider connection can't be used"
                );
                // Only a new text is written: `last_error` must not turn every attempt into a write.
                if row.last_error.as_deref() != Some(reason.as_str()) {
                    connections::record_error(db, provider_type, &reason).await?;
                }
                Err(ConnectError::Unusable {
                    provider: row.provider_type,
                    reason,
                })
            }
        }
    }

    /// What all builds of this process at this connection go through, with never more than `ceiling` requests under way.
    pub fn throttle(&self, provider_type: &str, ceiling: usize) -> Arc<Throttle> {
        throttle_of(&self.throttles, provider_type, ceiling)
    }

    /// As [`throttle`](Self::throttle), for what syncs read. One of their own: listings and downloads take other times than
    /// uploads, and one throttle would take the change from one to the other for a queue at the provider.
    pub fn sync_throttle(&self, provider_type: &str, ceiling: usize) -> Arc<Throttle> {
        throttle_of(&self.sync_throttles, provider_type, ceiling)
    }

    fn kept(&self, row: &Connection) -> Option<Arc<dyn Provider>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = open.get(&row.provider_type)?;
        if kept.version != row.updated_at {
            return None;
        }
        // Another process may have found out.
        kept.troubled.store(row.last_error.is_some(), Ordering::Relaxed);
        Some(Arc::clone(&kept.provider))
    }

    fn keep(&self, row: &Connection, kept: Kept) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(row.provider_type.clone(), kept);
    }

    fn build(&self, row: &Connection) -> Result<Kept, String> {
        let troubled = Arc::new(AtomicBool::new(row.last_error.is_some()));
        let config = self.config(row, &troubled)?;
        let provider = self.registry.open(config).map_err(|error| match error {
            OpenError::Client(error) => error.message.to_string(),
            other => other.to_string(),
        })?;
        Ok(Kept {
            version: row.updated_at,
            provider,
            troubled,
        })
    }

    /// The row as the provider layer takes it, with its credentials unsealed.
    fn config(&self, row: &Connection, troubled: &Arc<AtomicBool>) -> Result<ConnectionConfig, String> {
        let mut config = ConnectionConfig::new(&row.provider_type, &row.auth_type);
        config.base_url.clone_from(&row.base_url);
        config.network = self.network;
        if let Some(envelope) = &row.credentials_enc {
            let keyring = self
                .keyring
                .as_ref()
                .ok_or("PROVIDER_SECRETS_KEY is not set, but the credentials are sealed")?;
            let value = keyring
                .open_json(&row.provider_type, "credentials_enc", envelope)
                .map_err(|error| format!("the credentials can't be unsealed: {error}"))?;
            config.credentials = Some(Credentials::from_value(&value).map_err(|error| error.to_string())?);
        }
        if let Some(why) = self.withheld(&config) {
            return Err(why);
        }
        self.complete(&mut config);
        if let Some(pool) = &self.pool {
            let budget = FleetBudget::new(pool.clone(), row, Arc::clone(troubled));
            config.budget = Some(Arc::new(budget));
            if let (Some(keyring), Some(own)) = (&self.keyring, &config.credentials) {
                let tokens = RowTokens::new(pool.clone(), keyring.clone(), &row.provider_type, own);
                config.tokens = Some(Arc::new(tokens));
            }
        }
        Ok(config)
    }
}

fn throttle_of(throttles: &Throttles, provider_type: &str, ceiling: usize) -> Arc<Throttle> {
    let mut throttles = throttles.lock().unwrap_or_else(PoisonError::into_inner);
    let throttle = throttles
        .entry(provider_type.to_owned())
        .or_insert_with(|| Arc::new(Throttle::new(ceiling)));
    throttle.set_ceiling(ceiling);
    Arc::clone(throttle)
}
