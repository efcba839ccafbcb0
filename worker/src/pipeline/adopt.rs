//! Finding at the provider a store that an earlier claim may have made without our hearing of it.
//!
//! No provider has idempotency keys, so after an unknown outcome one looks before one makes. Only what is provably ours
//! is adopted: a store by its tag. A file carries no mark, and strangers' files have the same names and sizes: it is never
//! adopted. What the provider has confirmed to be deleted since is not adopted from a listing that is older than that.

use chrono::{DateTime, TimeDelta, Utc};
use rag_db::intents::{self, Intent};
use rag_db::ownership::{self, Kind};
use rag_providers::{Cursor, Order, PageRequest, Provider, ProviderError, VectorStore};

use super::Build;
use super::ensure_vector_store::TAG_INTENT;
use crate::halt::Halt;

/// How far the provider's clock may be behind the database's.
pub(crate) const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// Newest first, we stop at the intent's time; this only guards against a listing without times.
const MAX_PAGES: usize = 10_000;

/// The store that carries the intent's tag. Of several (a stale listing hid one from an earlier look) the oldest is
/// taken and the others are retired: the tag proves that they are ours.
pub(crate) async fn store(build: &Build<'_>, intent: &Intent) -> Result<Option<String>, Halt> {
    let provider_type = &build.index.provider_type;
    let found = stores_of(build.provider.as_ref(), intent).await?;
    let mut db = build.context.pool.acquire().await?;
    let mut usable = Vec::new();
    for store in found {
        if !intents::is_store_retired(&mut db, provider_type, &store.id).await?
            && !ownership::is_deleted(&mut db, provider_type, Kind::VectorStore, &store.id).await?
        {
            usable.push(store);
        }
    }
    drop(db);
    let mut found = usable.into_iter();
    let Some(adopted) = found.next() else {
        return Ok(None);
    };
    for surplus in found {
        tracing::warn!(
            store = surplus.id,
            "a second vector store carries the same tag: it will be deleted"
        );
        let mut tx = build.write().await?;
        intents::retire_store(&mut tx, &build.index.provider_type, build.index.id, &surplus.id).await?;
        tx.commit().await?;
    }
    Ok(Some(adopted.id))
}

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
