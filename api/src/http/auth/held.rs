//! Keys in use by something long: a stream of events, a download, a wait for a job. One poller in each process checks all of
//! them at once, so that each of these ends within seconds of its key's revocation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rag_db::{DbError, api_keys};
use rag_domain::ApiKeyId;
use sqlx::MySqlPool;
use tokio::sync::watch;

/// How often the keys are checked. Revocations by this process are known at once.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The held keys. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldKeys(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    revoked: HashMap<ApiKeyId, watch::Sender<bool>>,
    /// A poller runs; it ends when no key is held.
    is_polled: bool,
}

impl HeldKeys {
    /// Returns when the key is revoked. Dropping the future releases the key.
    pub(super) async fn revoked(&self, db: &MySqlPool, key: ApiKeyId) {
        let mut receiver = {
            let mut state = self.state();
            let sender = state.revoked.entry(key);
            let receiver = sender.or_insert_with(|| watch::channel(false).0).subscribe();
            if !std::mem::replace(&mut state.is_polled, true) {
                tokio::spawn(self.clone().poll(db.clone()));
            }
            receiver
        };
        // The sender is dropped only after it has sent `true`.
        let _revoked = receiver.wait_for(|revoked| *revoked).await;
    }

    pub(super) fn revoke(&self, key: ApiKeyId) {
        if let Some(sender) = self.state().revoked.remove(&key) {
            sender.send_replace(true);
        }
    }

    async fn poll(self, db: MySqlPool) {
        while let Some(keys) = self.still_held() {
            match in_force(&db, &keys).await {
                Ok(in_force) => {
                    let revoked = keys.iter().filter(|key| !in_force.contains(key));
                    revoked.for_each(|key| self.revoke(*key));
                }
                Err(error) => {
                    tracing::warn!(%error, "held keys could not be checked; the next poll tries again");
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// `None`: no key is held any more. The poller ends, and the next holder starts another.
    fn still_held(&self) -> Option<Vec<ApiKeyId>> {
        let mut state = self.state();
        state.revoked.retain(|_, sender| sender.receiver_count() > 0);
        if state.revoked.is_empty() {
            state.is_polled = false;
            return None;
        }
        Some(state.revoked.keys().copied().collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn in_force(db: &MySqlPool, keys: &[ApiKeyId]) -> Result<Vec<ApiKeyId>, DbError> {
    api_keys::list_in_force(&mut *db.acquire().await?, keys).await
}
