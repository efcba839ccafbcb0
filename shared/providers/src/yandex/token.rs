//! IAM tokens: got with a signed claim, refreshed ahead of time and when one is refused, once for all processes. A token is
//! looked for in this process, then in the shared store, and only then at IAM.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tracing::debug;
use url::Url;

use super::service_account::ServiceAccountKey;
use crate::connection::{ConnectionConfig, StoredToken, TokenStore};
use crate::error::{ErrorKind, ProviderError};
use crate::http::transport::TransportConfig;
use crate::http::{Answer, Authorizer, Call, NoAuth, Redactor, Transport, authorization};
use crate::operation::Operation;

/// A token lives up to twelve hours; Yandex asks for a new one every hour.
const REFRESH_AFTER: chrono::Duration = chrono::Duration::hours(1);
/// Not used any more this long before its end: a call takes its time, and clocks differ.
const MARGIN: chrono::Duration = chrono::Duration::minutes(1);
/// A refusal of a token that is younger is not the token's fault, or has been dealt with by another call.
const TOO_YOUNG_TO_BLAME: chrono::Duration = chrono::Duration::seconds(10);
/// How long a process may be the one that refreshes.
const LEASE: Duration = Duration::from_secs(30);
/// How long, and how often, to look for the token another process is getting.
const OTHERS_PATIENCE: Duration = Duration::from_secs(10);
const OTHERS_POLL: Duration = Duration::from_millis(250);

pub(super) struct IamTokens {
    key: ServiceAccountKey,
    transport: Transport,
    store: Option<Arc<dyn TokenStore>>,
    known: Mutex<Known>,
    /// Held by the call that refreshes.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    current: Option<StoredToken>,
    /// Refused by the provider; not to be taken from the store again.
    refused: Option<SecretString>,
}

impl Known {
    /// May be sent now.
    fn usable(&self, now: DateTime<Utc>) -> Option<StoredToken> {
        self.current
            .clone()
            .filter(|token| now < token.expires_at - MARGIN)
    }

    /// Neither ended nor due for a refresh.
    fn fresh(&self, now: DateTime<Utc>) -> Option<StoredToken> {
        self.usable(now).filter(|token| now < refresh_at(token))
    }
}

/// After an hour, or at three quarters of a shorter life.
fn refresh_at(token: &StoredToken) -> DateTime<Utc> {
    let life = token.expires_at - token.issued_at;
    token.issued_at + REFRESH_AFTER.min(life * 3 / 4)
}

impl IamTokens {
    pub(super) fn new(
        key: ServiceAccountKey,
        iam_url: Url,
        config: &ConnectionConfig,
    ) -> Result<Self, ProviderError> {
        let redactor = config
            .credentials
            .as_ref()
            .map(|credentials| Redactor::new(credentials.values()));
        let transport = Transport::new(TransportConfig {
            provider_type: "yandex",
            base_url: iam_url,
            network: config.network,
            timeouts: config.timeouts,
            headers: HeaderMap::new(),
            auth: Arc::new(NoAuth),
            // A token is requested once an hour, and a budget that calls have used up must not prevent that.
            budget: None,
            redactor: redactor.unwrap_or_default(),
        })?;
        let store = config.tokens.clone();
        Ok(Self {
            key,
            transport,
            store,
            known: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        })
    }

    fn known<T>(&self, read: impl FnOnce(&mut Known) -> T) -> T {
        read(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn usable(&self) -> Option<StoredToken> {
        self.known(|known| known.usable(Utc::now()))
    }

    fn fresh(&self) -> Option<StoredToken> {
        self.known(|known| known.fresh(Utc::now()))
    }

    async fn token(&self) -> Result<StoredToken, ProviderError> {
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let _refreshing = match (self.refreshing.try_lock(), self.usable()) {
            (Ok(guard), _) => guard,
            // Another process is already requesting one; the old token serves until then.
            (Err(_), Some(token)) => return Ok(token),
            (Err(_), None) => self.refreshing.lock().await,
        };
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        self.refresh().await.or_else(|error| {
            let old = self.usable();
            if old.is_some() {
                debug!(%error, "the token could not be refreshed ahead of time; the old one is good still");
            }
            old.ok_or(error)
        })
    }

    /// Only one at a time in this process.
    async fn refresh(&self) -> Result<StoredToken, ProviderError> {
        if let Some(token) = self.adopt_stored().await {
            return Ok(token);
        }
        if !self.lease().await {
            if let Some(token) = self.usable() {
                return Ok(token);
            }
            if let Some(token) = self.wait_for_others().await {
                return Ok(token);
            }
        } else if let Some(token) = self.adopt_stored().await {
            // The holder of the lease before us has stored it since we looked.
            return Ok(token);
        }
        let token = self.exchange().await?;
        self.known(|known| known.current = Some(token.clone()));
        if let Some(store) = &self.store
            && let Err(error) = store.save(&token).await
        {
            debug!(%error, "the token could not be shared with other processes");
        }
        Ok(token)
    }

    /// Takes the stored token if it is newer than what is known. Answers it if it is fresh.
    async fn adopt_stored(&self) -> Option<StoredToken> {
        let stored = match self.store.as_ref()?.load().await {
            Ok(stored) => stored?,
            Err(error) => {
                debug!(%error, "the shared token could not be read");
                return None;
            }
        };
        self.known(|known| {
            let secret = stored.token.expose_secret();
            let refused = known
                .refused
                .as_ref()
                .is_some_and(|refused| refused.expose_secret() == secret);
            let newer = known
                .current
                .as_ref()
                .is_none_or(|current| current.issued_at < stored.issued_at);
            if !refused && newer {
                known.current = Some(stored);
            }
            known.fresh(Utc::now())
        })
    }

    /// Without a store, or if it fails, every process is on its own.
    async fn lease(&self) -> bool {
        let Some(store) = &self.store else { return true };
        store.lease(LEASE).await.unwrap_or_else(|error| {
            debug!(%error, "the right to refresh the token could not be asked for");
            true
        })
    }

    async fn wait_for_others(&self) -> Option<StoredToken> {
        let deadline = tokio::time::Instant::now() + OTHERS_PATIENCE;
        while tokio::time::Instant::now() < deadline {
            tokio::time::sleep(OTHERS_POLL).await;
            if let Some(token) = self.adopt_stored().await {
                return Some(token);
            }
        }
        None
    }

    async fn exchange(&self) -> Result<StoredToken, ProviderError> {
        let issued_at = Utc::now();
        let claim = self.key.claim(issued_at).map_err(|error| {
            ProviderError::new(ErrorKind::Disabled, Operation::Authenticate, error.to_string())
        })?;
        let call = Call::post(Operation::Authenticate, &[])?.json(json!({"jwt": claim.as_str()}));
        let Answer {
            value, request_id, ..
        } = self.transport.json(&call).await.map_err(refused_claim)?;
        let token = value
            .get("iamToken")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty());
        let expires_at = value.get("expiresAt").and_then(Value::as_str);
        let expires_at = expires_at.and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        let token = token.zip(expires_at).map(|(token, expires_at)| StoredToken {
            token: SecretString::from(token),
            issued_at,
            expires_at: expires_at.with_timezone(&Utc),
        });
        token.ok_or_else(|| {
            let message = "the answer is not an IAM token";
            ProviderError::new(ErrorKind::Protocol, Operation::Authenticate, message)
                .or_request_id(request_id)
        })
    }
}

/// IAM says "invalid" or "not found" of a key or account it does not know: the credentials are wrong, not the request.
fn refused_claim(error: ProviderError) -> ProviderError {
    match error.kind {
        ErrorKind::InvalidRequest | ErrorKind::NotFound => ProviderError {
            kind: ErrorKind::Unauthorized,
            ..error
        },
        _ => error,
    }
}

#[async_trait]
impl Authorizer for IamTokens {
    async fn header(&self) -> Result<Option<HeaderValue>, ProviderError> {
        let token = self.token().await?;
        let header = authorization("Bearer", &token.token).ok_or_else(|| {
            ProviderError::new(
                ErrorKind::Protocol,
                Operation::Authenticate,
                "the IAM token can't be sent",
            )
        })?;
        Ok(Some(header))
    }

    async fn renew(&self) -> bool {
        self.known(|known| {
            let old = known
                .current
                .take_if(|token| Utc::now() - token.issued_at > TOO_YOUNG_TO_BLAME);
            if let Some(old) = old {
                known.refused = Some(old.token);
            }
        });
        true
    }
}

impl fmt::Debug for IamTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IamTokens")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
