//! Finding at the provider a store that an earlier claim may have made without our hearing of it.
//!
//! No provider has idempotency keys, so after an unknown outcome one looks before one makes. Only what is provably ours
//! is adopted: a store by its tag. A file carries no mark, and strangers' files have the same names and sizes: it is never
//! adopted. What the provider has confirmed to be deleted since is not adopted from a listing that is older than that.

use chrono::{DateTime, Utc};
use rag_db::intents::Intent;
use rag_domain::STORE_TAGS;
use rag_providers::{Cursor, Order, PageRequest, Provider, ProviderError, VectorStore};

use super::listing::CLOCK_SKEW;

/// The metadata keys by which a store is known as ours.
pub(crate) const TAG_INTENT: &str = STORE_TAGS[0];
pub(crate) const TAG_INDEX: &str = STORE_TAGS[1];

/// Newest first, we stop at the intent's time; this only guards against a listing without times.
const MAX_PAGES: usize = 10_000;

/// The stores that carry the intent's tag, oldest first.
pub(crate) async fn stores_of(
    provider: &dyn Provider,
    intent: &Intent,
) -> Result<Vec<VectorStore>, ProviderError> {
    let tag = intent.id.to_string();
    let mut found = stores_since(provider, intent.created_at - CLOCK_SKEW).await?;
    found.retain(|store| tag_of(store) == Some(tag.as_str()));
    found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(found)
}

/// The id of the intent that a store was made for, if it is one of ours, or looks like one.
pub(crate) fn tag_of(store: &VectorStore) -> Option<&str> {
    store.metadata.get(TAG_INTENT).and_then(|value| value.as_str())
}

async fn stores_since(
    provider: &dyn Provider,
    since: DateTime<Utc>,
) -> Result<Vec<VectorStore>, ProviderError> {
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let page = provider
            .list_vector_stores(newest(provider.capabilities().max_page_items, after))
            .await?;
        let old = page
            .items
            .iter()
            .any(|store| store.created_at.is_some_and(|at| at < since));
        found.extend(
            page.items
                .into_iter()
                .filter(|store| store.created_at.is_none_or(|at| at >= since)),
        );
        after = page.next;
        if old || after.is_none() {
            break;
        }
    }
    Ok(found)
}

fn newest(limit: u32, after: Option<Cursor>) -> PageRequest {
    PageRequest {
        limit: Some(limit),
        after,
        order: Some(Order::Descending),
    }
}
