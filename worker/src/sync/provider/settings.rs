//! Settings of a store as settings of an index, as far as the provider tells them.
//!
//! What it does not tell, or can't hold, stays as it is here: the index's metadata may be richer than a store's, and not
//! every provider keeps descriptions.

use rag_db::indexes::{Index, IndexChanges, NewIndex};
use rag_domain::{ChunkingStrategy, DomainId, IndexId, Setting};
use rag_providers::VectorStore;
use serde_json::{Map, Value, json};

use crate::observe::tagged_stores::{TAG_INDEX, TAG_INTENT};
use crate::provider_payload::PAYLOAD;

/// As many characters as the column holds.
const NAME_CHARS: usize = 255;

/// An index for a store that nobody of ours has; whose it is, the caller fills in.
pub(super) fn of_new(store: &VectorStore, domain: &DomainId, provider_type: &str) -> NewIndex {
    let metadata: Map<String, Value> = own_pairs(store)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    NewIndex {
        id: IndexId::new(),
        domain_id: domain.clone(),
        name: name(store).unwrap_or_else(|| store.id.clone()),
        description: store.description.clone(),
        provider_type: provider_type.to_owned(),
        chunking_strategy: strategy(store),
        expires_after: expiry(store).flatten(),
        metadata: (!metadata.is_empty()).then_some(Value::Object(metadata)),
    }
}

/// What is to be changed in the index, and field by field how it differs.
pub(super) fn difference(index: &Index, store: &VectorStore) -> Option<(IndexChanges, Value)> {
    // What the caller changed since the store was last given anything is newer than what the store has; a build pushes it.
    let wanted = index.store_settings();
    let newer = index
        .pushed_settings
        .as_ref()
        .map(|given| wanted.changed_since(given))
        .unwrap_or_default();
    let is_newer = |setting| newer.contains(&setting);
    let mut changes = IndexChanges::default();
    let mut fields = Map::new();
    let mut differs = |field: &str, here: Value, there: Value| {
        fields.insert(field.to_owned(), json!({"index": here, "store": there}));
    };
    if let Some(name) = name(store).filter(|name| *name != index.name && !is_newer(Setting::Name)) {
        differs("name", json!(index.name), json!(name));
        changes.name = Some(name);
    }
    if let Some(description) = &store.description
        && index.description.as_ref() != Some(description)
        && !description.is_empty()
    {
        differs("description", json!(index.description), json!(description));
        changes.description = Some(Some(description.clone()));
    }
    if let Some(expiry) = expiry(store)
        && !is_newer(Setting::ExpiresAfter)
        && days(expiry.as_ref()) != days(index.expires_after.as_ref())
    {
        differs("expires_after", json!(index.expires_after), json!(expiry));
        changes.expires_after = Some(expiry);
    }
    if let Some(strategy) = strategy(store)
        && index.chunking_strategy != Some(strategy)
    {
        differs(
            "chunking_strategy",
            json!(index.chunking_strategy),
            json!(strategy),
        );
        changes.chunking_strategy = Some(Some(strategy));
    }
    if let Some(metadata) = metadata(index, store).filter(|_| !is_newer(Setting::Metadata)) {
        let here: Map<String, Value> = match &index.metadata {
            Some(Value::Object(here)) => here.clone(),
            _ => Map::new(),
        };
        let mut without_payload = here;
        without_payload.remove(PAYLOAD);
        let there: Map<String, Value> = own_pairs(store)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        differs("metadata", Value::Object(without_payload), Value::Object(there));
        changes.metadata = Some(Some(metadata));
    }
    (!fields.is_empty()).then_some((changes, Value::Object(fields)))
}

fn name(store: &VectorStore) -> Option<String> {
    let name: String = store.name.chars().take(NAME_CHARS).collect();
    (!name.trim().is_empty()).then_some(name)
}

/// For files that have none of their own.
pub(super) fn strategy(store: &VectorStore) -> Option<ChunkingStrategy> {
    ChunkingStrategy::from_json(store.raw.get("chunking_strategy")?).ok()
}

/// `None`: the provider does not say; `Some(None)`: the store does not expire.
#[expect(clippy::option_option, reason = "as in IndexChanges")]
fn expiry(store: &VectorStore) -> Option<Option<Value>> {
    match store.raw.get("expires_after")? {
        Value::Null => Some(None),
        value => Some(Some(value.clone())),
    }
}

fn days(expiry: Option<&Value>) -> Option<u64> {
    expiry?.get("days")?.as_u64()
}

/// The pairs that are not our own tags.
fn own_pairs(store: &VectorStore) -> impl Iterator<Item = (&String, &Value)> {
    store
        .metadata
        .iter()
        .filter(|(key, _)| ![TAG_INDEX, TAG_INTENT, PAYLOAD].contains(&key.as_str()))
}

/// The index's metadata with the store's pairs in it. `None`: they are there already. A number that went out as a text and
/// comes back as one is the same.
fn metadata(index: &Index, store: &VectorStore) -> Option<Value> {
    let mut own = match &index.metadata {
        Some(Value::Object(own)) => own.clone(),
        _ => Map::new(),
    };
    let mut changed = false;
    for (key, there) in own_pairs(store) {
        if own.get(key).map(text) != Some(text(there)) {
            own.insert(key.clone(), there.clone());
            changed = true;
        }
    }
    changed.then_some(Value::Object(own))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use rag_domain::IndexingStatus;

    fn store(value: &Value) -> VectorStore {
        let mut store: VectorStore = serde_json::from_value(value.clone()).unwrap();
        store.raw = value.clone();
        store
    }

    fn index() -> Index {
        Index {
            id: IndexId::new(),
            domain_id: DomainId::try_from("d".to_owned()).unwrap(),
            name: "n".to_owned(),
            description: Some("ours".to_owned()),
            provider_type: "openai".to_owned(),
            external_id: Some("vs".to_owned()),
            chunking_strategy: None,
            expires_after: Some(json!({"anchor": "last_active_at", "days": 3})),
            metadata: Some(json!({"level": 3, "nested": {"a": 1}, PAYLOAD: {"id": "old"}})),
            indexing_status: IndexingStatus::Done,
            indexed_at: None,
            last_error: None,
            store_missed_at: None,
            pushed_settings: None,
            sync_error: None,
            query_error: None,
            settings_error: None,
            store_expired_at: None,
            created_at: Utc::now(),
            updated_at: Utc::now(),
        }
    }

    #[test]
    fn what_went_out_and_comes_back_is_no_difference() {
        let back = store(&json!({
            "id": "vs", "status": "completed", "name": "n", "description": null,
            "expires_after": {"anchor": "last_active_at", "days": 3},
            "metadata": {"level": "3", TAG_INDEX: "i", TAG_INTENT: "t"},
        }));
        assert!(difference(&index(), &back).is_none());
        // A provider that says nothing of a setting changes nothing.
        let terse = store(&json!({"id": "vs", "status": "completed", "name": ""}));
        assert!(difference(&index(), &terse).is_none());
    }

    #[test]
    fn what_others_changed_is_taken_over_and_the_callers_own_stays() {
        let renamed = store(&json!({
            "id": "vs", "status": "completed", "name": "other", "expires_after": null,
            "metadata": {"level": "4", "new": "x"},
        }));
        let (changes, fields) = difference(&index(), &renamed).unwrap();
        assert_eq!(changes.name.as_deref(), Some("other"));
        assert_eq!(changes.description, None, "nobody said anything of it");
        assert_eq!(changes.expires_after, Some(None));
        let metadata = changes.metadata.unwrap().unwrap();
        assert_eq!(
            metadata,
            json!({"level": "4", "new": "x", "nested": {"a": 1}, PAYLOAD: {"id": "old"}})
        );
        let fields: Vec<&String> = fields.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["expires_after", "metadata", "name"]);
    }

    #[test]
    fn what_the_caller_changed_last_is_not_taken_back() {
        let mut index = index();
        index.pushed_settings = Some(index.store_settings());
        let there = store(&json!({
            "id": "vs", "status": "completed", "name": "n", "expires_after": {"anchor": "last_active_at", "days": 3},
            "metadata": {"level": "3"},
        }));
        assert!(difference(&index, &there).is_none());
        index.name = "newer".to_owned();
        index.expires_after = None;
        index.metadata = Some(json!({}));
        assert!(difference(&index, &there).is_none());
    }

    #[test]
    fn a_store_without_a_name_is_known_by_its_id() {
        let domain = DomainId::try_from("d".to_owned()).unwrap();
        let nameless =
            json!({"id": "vs_9", "status": "completed", "name": null, "metadata": {TAG_INDEX: "gone"}});
        let new = of_new(&store(&nameless), &domain, "openai");
        assert_eq!((new.name.as_str(), new.metadata), ("vs_9", None));
    }
}
