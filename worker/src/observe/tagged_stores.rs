//! Stores that carry the tag of an intent: what an earlier claim may have made without receiving the answer.
//!
//! No provider has idempotency keys, so after an unknown outcome the stores are listed before one is made. Only what is provably ours
//! is adopted: a store by its tag. A file carries no mark, and strangers' files have the same names and sizes: it is never
//! adopted. What the provider has confirmed to be deleted since is not adopted from a listing that is older than that.

use rag_db::intents::Intent;
use rag_domain::STORE_TAGS;
use rag_providers::{Order, Provider, ProviderError, VectorStore};

use super::listing::{CLOCK_SKEW, Pages};

/// The metadata keys by which a store is known as ours.
pub(crate) const TAG_INTENT: &str = STORE_TAGS[0];
pub(crate) const TAG_INDEX: &str = STORE_TAGS[1];

/// The stores that carry the intent's tag, oldest first.
pub(crate) async fn stores_of(
    provider: &dyn Provider,
    intent: &Intent,
) -> Result<Vec<VectorStore>, ProviderError> {
    let tag = intent.id.to_string();
    let mut found = Pages::of_stores(provider, Order::Descending)
        .since(intent.created_at - CLOCK_SKEW, |store| store.created_at)
        .await?;
    found.retain(|store| tag_of(store) == Some(tag.as_str()));
    found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(found)
}

/// The id of the intent that a store was made for, if it is one of ours, or looks like one.
pub(crate) fn tag_of(store: &VectorStore) -> Option<&str> {
    store.metadata.get(TAG_INTENT).and_then(|value| value.as_str())
}
