//! Part of step 1: a store that an earlier claim may have made without receiving the answer is adopted instead of made again.
//!
//! Only a store that carries the intent's tag is adopted (`observe::tagged_stores`), and none that is retired or confirmed to
//! be deleted: a listing may be older than the deletion.

use rag_db::intents::{self, Intent};
use rag_db::ownership::{self, Kind};

use super::state::Build;
use crate::observe::tagged_stores::stores_of;
use crate::step_error::StepError;

/// The store that carries the intent's tag. Of several (a stale listing hid one from an earlier attempt) the oldest is
/// taken and the others are retired: the tag proves that they are ours.
pub(super) async fn find(build: &Build<'_>, intent: &Intent) -> Result<Option<String>, StepError> {
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
        intents::retire_store(
            &mut tx,
            &build.index.provider_type,
            Some(build.index.id),
            &surplus.id,
        )
        .await?;
        tx.commit().await?;
    }
    Ok(Some(adopted.id))
}
