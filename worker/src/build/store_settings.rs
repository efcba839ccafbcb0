//! Part of step 1: what the caller changed of the index's settings since the store was last given them reaches the store.
//!
//! Reads the index. Writes its `pushed_settings`. Calls update of the store. Safe to repeat because it sets what is wanted,
//! whatever is there: of the pairs in `metadata` it takes back only those that were ours, for servers keep some of their own
//! there and break without them.

use rag_db::indexes;
use rag_domain::{Setting, StoreSettings};
use rag_providers::{Disposition, ExpiresAfter, Patch, VectorStore, VectorStoreUpdate};
use serde_json::Value;

use super::state::Build;
use crate::step_error::{StepError, chain};

/// A provider that does not take them fails no build: the files are worth more, and the index says why.
pub(super) async fn push(build: &mut Build<'_>, store: &VectorStore) -> Result<(), StepError> {
    let wanted = build.index.store_settings();
    let given = build.index.pushed_settings.clone();
    let changed = match &given {
        Some(given) => wanted.changed_since(given),
        // Nobody knows what it was given last: what it shows decides.
        None => wanted.changed_since(&shown(store, &wanted)),
    };
    let mut error = None;
    if !changed.is_empty() {
        let update = update(&wanted, given.as_ref(), store, &changed);
        match build.provider.update_vector_store(&store.id, update).await {
            Ok(_) => tracing::info!(store = store.id, ?changed, "the store has the index's settings"),
            Err(refusal) if refusal.disposition() == Disposition::Fail => {
                let text = chain(&refusal);
                tracing::warn!(
                    store = store.id,
                    error = text,
                    "the store does not take the index's settings"
                );
                error = Some(text);
            }
            Err(other) => return Err(other.into()),
        }
    }
    if given.as_ref() == Some(&wanted) && error == build.index.settings_error {
        return Ok(());
    }
    // What was not taken is still to be given.
    let now_given = if error.is_none() { Some(wanted) } else { given };
    let (mut tx, index) = build.write_index().await?;
    indexes::set_pushed_settings(&mut tx, index.id, now_given.as_ref(), error.as_deref()).await?;
    tx.commit().await?;
    build.index.pushed_settings = now_given;
    build.index.settings_error = error;
    Ok(())
}

/// The store's settings as the provider tells them. Of pairs only those count that the index wants: the others are not ours.
/// What the provider does not tell is taken for what is wanted.
fn shown(store: &VectorStore, wanted: &StoreSettings) -> StoreSettings {
    let tells = |field: &str| store.raw.get(field).is_some();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    StoreSettings {
        name: if store.name.is_empty() {
            wanted.name.clone()
        } else {
            store.name.clone()
        },
        expires_after_days: if tells("expires_after") {
            store.expires_after.as_ref().map(|after| after.days)
        } else {
            wanted.expires_after_days
        },
        metadata: store
            .metadata
            .iter()
            .filter(|(key, _)| wanted.metadata.contains_key(*key))
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
    }
}

fn update(
    wanted: &StoreSettings,
    given: Option<&StoreSettings>,
    store: &VectorStore,
    changed: &[Setting],
) -> VectorStoreUpdate {
    let mut update = VectorStoreUpdate::default();
    for setting in changed {
        match setting {
            Setting::Name => update.name = Some(wanted.name.clone()),
            Setting::ExpiresAfter => {
                update.expires_after = match wanted.expires_after_days {
                    Some(days) => Patch::Set(ExpiresAfter::days_after_last_use(days)),
                    None => Patch::Clear,
                };
            }
            Setting::Metadata => update.metadata = Some(wanted.merge_metadata(given, &store.metadata)),
        }
    }
    update
}
