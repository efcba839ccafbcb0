//! Vector stores themselves; their files are in `attachments`.

use super::{Counts, State, Store, now};
use crate::{
    collection::Collection,
    context::Context,
    error::ApiError,
    ids::Id,
    ledger::{Effect, Entry},
};
use serde_json::{Map, Value};
use std::time::Instant;

/// Fields of a create or an update; `None` leaves a field as it is.
#[derive(Debug, Default)]
pub(crate) struct StoreChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    #[expect(clippy::option_option, reason = "an inner `None` ends the expiry")]
    pub expires_after_days: Option<Option<u32>>,
}

const SECONDS_PER_DAY: i64 = 86_400;
/// The key without which nothing can be indexed, where servers keep their own in `metadata`.
pub(super) const EMBEDDING_MODEL: &str = "embedding_model";

impl Store {
    pub(crate) fn expires_at(&self) -> Option<i64> {
        self.expires_after_days
            .filter(|_| self.expires)
            .map(|days| self.last_active_at + i64::from(days) * SECONDS_PER_DAY)
    }

    pub(crate) fn status(&self) -> &'static str {
        if self.expires_at().is_some_and(|at| at <= now()) {
            "expired"
        } else if self.counts.in_progress > 0 {
            "in_progress"
        } else {
            "completed"
        }
    }

    fn apply(&mut self, change: StoreChange) {
        if let Some(name) = change.name {
            self.name = Some(name);
        }
        if let Some(description) = change.description {
            self.description = Some(description);
        }
        if let Some(metadata) = change.metadata {
            self.metadata = metadata;
        }
        if let Some(days) = change.expires_after_days {
            self.expires_after_days = days;
        }
    }

    fn entry(&self, effect: Effect) -> Entry {
        Entry {
            effect,
            vector_store_id: Some(self.id.clone()),
            ..Entry::default()
        }
    }
}

impl State {
    pub(crate) fn create_store(&mut self, context: &Context, id: Id, change: StoreChange) {
        let created_at = now();
        let mut store = Store {
            id: id.clone(),
            name: None,
            description: None,
            metadata: Map::new(),
            expires_after_days: None,
            expires: !self.deviations.ignore_expires_after,
            created_at,
            created: Instant::now(),
            last_active_at: created_at,
            usage_bytes: 0,
            counts: Counts::default(),
            files: Collection::default(),
            batches: Vec::new(),
        };
        store.apply(change);
        if self.deviations.own_metadata_keys {
            let own = own_metadata(&store.id);
            store
                .metadata
                .extend(own.map(|(key, value)| (key.to_owned(), value.into())));
        }
        self.ledger.push(context, store.entry(Effect::StoreCreated));
        self.stores.insert(id, store);
    }

    pub(crate) fn store(&self, id: &str) -> Result<&Store, ApiError> {
        self.stores.get(id).ok_or_else(|| no_store(id))
    }

    pub(crate) fn store_mut(&mut self, id: &str) -> Result<&mut Store, ApiError> {
        self.stores.get_mut(id).ok_or_else(|| no_store(id))
    }

    pub(crate) fn update_store(
        &mut self,
        context: &Context,
        id: &str,
        change: StoreChange,
    ) -> Result<&Store, ApiError> {
        let store = self.stores.get_mut(id).ok_or_else(|| no_store(id))?;
        store.last_active_at = now();
        store.apply(change);
        self.ledger.push(context, store.entry(Effect::StoreUpdated));
        Ok(store)
    }

    /// The files stay; the store's batches go with it.
    pub(crate) fn delete_store(&mut self, context: &Context, id: &str) -> Result<(), ApiError> {
        let store = self.stores.remove(id).ok_or_else(|| no_store(id))?;
        self.ledger.push(context, store.entry(Effect::StoreDeleted));
        for (file_id, _) in store.files.iter() {
            self.mark_attached(file_id, &store.id, false);
        }
        for batch_id in &store.batches {
            self.batches.remove(batch_id);
        }
        Ok(())
    }
}

/// What a server that keeps its settings in `metadata` writes there.
fn own_metadata(id: &str) -> [(&'static str, String); 4] {
    [
        ("provider_id", "faiss".to_owned()),
        ("provider_vector_store_id", id.to_owned()),
        (EMBEDDING_MODEL, "openai/hash-embed".to_owned()),
        ("embedding_dimension", "384".to_owned()),
    ]
}

fn no_store(id: &str) -> ApiError {
    let message = format!("Vector store with id '{id}' not found.");
    ApiError {
        param: Some("vector_store_id".into()),
        ..ApiError::new(axum::http::StatusCode::NOT_FOUND, message)
    }
}
