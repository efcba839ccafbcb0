//! The fleet's limit of requests that are open at the same time at one provider, kept in rows.
//!
//! Every request has a slot of its own: one statement takes it, one releases it, and none is open in between. A slot is
//! taken for [`TIME`] and kept while the request lasts, so that a killed process's come back by themselves. The limit is hard
//! as long as processes run: one that was stopped for longer than [`TIME`] with a request on the wire has lost its slot to
//! another, and its request is not called back.

use std::sync::Arc;
use std::time::Duration;

use rag_db::DbError;
use rag_db::slots::{self, Slot};
use rag_providers::BudgetRefused;
use sqlx::MySqlPool;
use tokio::sync::{Mutex, Notify, OnceCell};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// For how long a slot is taken; the slot of a killed process is free after that.
const TIME: Duration = Duration::from_secs(10);
/// A longer wait is a refusal, which frees the job's slot.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Between two queries for a slot that another process may have released.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct FleetSlots {
    shared: Arc<Shared>,
    limit: u32,
    created: OnceCell<()>,
    /// One request of this process at a time tries to take a slot: the first that came.
    turn: Mutex<()>,
}

struct Shared {
    pool: MySqlPool,
    provider_type: String,
    /// A slot of this process was released.
    given_back: Notify,
}

impl FleetSlots {
    pub(crate) fn new(pool: MySqlPool, provider_type: &str, limit: u32) -> Self {
        let shared = Shared {
            pool,
            provider_type: provider_type.to_owned(),
            given_back: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            limit,
            created: OnceCell::new(),
            turn: Mutex::default(),
        }
    }

    /// Waits for a slot.
    pub(crate) async fn take(&self) -> Result<Place, BudgetRefused> {
        let refused = |_| BudgetRefused::rate(REFUSED_FOR);
        tokio::time::timeout(LONGEST_WAIT, self.found())
            .await
            .map_err(refused)
    }

    async fn found(&self) -> Place {
        let _turn = self.turn.lock().await;
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.find().await {
                Ok(Some(slot)) => return Place::new(Arc::clone(&self.shared), slot),
                Ok(None) => {}
                // Without the database the number of open requests is not known.
                Err(error) => tracing::debug!(%error, "a slot for a request could not be taken"),
            }
            tokio::select! {
                () = self.shared.given_back.notified() => {}
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    async fn find(&self) -> Result<Option<Slot>, DbError> {
        let (pool, provider) = (&self.shared.pool, &self.shared.provider_type);
        let mut db = pool.acquire().await?;
        self.created
            .get_or_try_init(|| slots::create(&mut db, provider, self.limit))
            .await?;
        let (holder, _) = Uuid::new_v4().as_u64_pair();
        slots::take(&mut db, provider, self.limit, holder, TIME).await
    }
}

/// The slot of an open request; it is released on drop.
pub(crate) struct Place {
    shared: Arc<Shared>,
    slot: Slot,
    keeping: AbortHandle,
}

impl Place {
    fn new(shared: Arc<Shared>, slot: Slot) -> Self {
        let keeping = tokio::spawn(keep(Arc::clone(&shared), slot)).abort_handle();
        Self {
            shared,
            slot,
            keeping,
        }
    }
}

async fn keep(shared: Arc<Shared>, slot: Slot) {
    loop {
        tokio::time::sleep(TIME / 4).await;
        let kept = async {
            let mut db = shared.pool.acquire().await?;
            slots::keep(&mut db, &shared.provider_type, slot, TIME).await
        };
        match kept.await {
            Ok(true) => {}
            Ok(false) => {
                let provider = &shared.provider_type;
                tracing::warn!(
                    provider,
                    "a request outlived its slot: more may be open than are allowed"
                );
                return;
            }
            Err(error) => tracing::debug!(%error, "a request's slot could not be renewed this time"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keeping.abort();
        // Without a runtime the process is ending, and the slot becomes free by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (shared, slot) = (Arc::clone(&self.shared), self.slot);
        runtime.spawn(async move {
            let released = async {
                let mut db = shared.pool.acquire().await?;
                slots::release(&mut db, &shared.provider_type, slot).await
            };
            if let Err(error) = released.await {
                tracing::debug!(%error, "a request's slot becomes free by itself");
            }
            shared.given_back.notify_one();
        });
    }
}
