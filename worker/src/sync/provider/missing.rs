//! Phases `missing` and `detach`: indexes whose stores were not listed.
//!
//! First all of them are counted, before anything is changed: too many at once stop the run ([`rag_domain::DeletionThreshold`]). Then each is asked
//! for by name, because a listing may have a hole, and once more some time later: only what both witnesses agree on is gone.

use std::time::Duration;

use rag_db::syncs::{self, items, items::Missing};
use rag_db::{imports, indexes};
use rag_domain::{FindingKind, IndexId, ItemState, Listing, SyncPhase};
use rag_jobs::index_concurrency_key;
use rag_providers::VectorStore;
use serde_json::{Value, json};
use sqlx::MySqlConnection;

use super::run::{LONG_SLICE, Sync, WHOLE_RUN};
use crate::observe::presence::{self, Presence};
use crate::step_error::StepError;
use crate::sync::lost_store::{detach, may_be_young};

const PAGE: u32 = 200;

/// Too many? Then the run stops here.
pub(super) async fn check(sync: &Sync<'_>) -> Result<(), StepError> {
    let mut db = sync.context.pool.acquire().await?;
    let (mut missing, mut after) = (0_u64, None);
    loop {
        let page = list(sync, &mut db, after).await?;
        missing += page.len() as u64;
        match page.last() {
            Some(last) => after = Some(last.id),
            None => break,
        }
    }
    drop(db);
    let mut tx = sync.write().await?;
    let known = sync.totals_in(&mut tx).await?.indexes_known.max(missing);
    let allowance = sync.deletion_threshold().allowance(known);
    if missing > allowance && !sync.job.force {
        let reason = format!(
            "the stores of {missing} of {known} indexes are not at the provider, more than the {allowance} that may be \
             detached at once: nothing was changed; force=true goes on"
        );
        if sync.job.dry_run {
            sync.error(&mut tx, WHOLE_RUN, &reason).await?;
        } else {
            sync.stop(&mut tx, &reason).await?;
            return Ok(tx.commit().await?);
        }
    }
    syncs::go_to(&mut tx, &sync.job_id, SyncPhase::DETACH, None).await?;
    Ok(tx.commit().await?)
}

pub(super) async fn detach_all(sync: &Sync<'_>) -> Result<(), StepError> {
    let (mut after, mut check_again) = (None, None);
    loop {
        let mut db = sync.context.pool.acquire().await?;
        let page = list(sync, &mut db, after).await?;
        drop(db);
        for missing in &page {
            sync.check_running(LONG_SLICE)?;
            one(sync, missing, &mut check_again).await?;
        }
        match page.last() {
            Some(last) => after = Some(last.id),
            None => break,
        }
    }
    if let Some(after) = check_again {
        return Err(StepError::snooze(
            after,
            "stores were not found: a second check decides",
        ));
    }
    let mut tx = sync.write().await?;
    syncs::go_to(&mut tx, &sync.job_id, SyncPhase::READ_STORES, None).await?;
    Ok(tx.commit().await?)
}

async fn list(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    after: Option<IndexId>,
) -> Result<Vec<Missing>, StepError> {
    Ok(items::list_missing(db, &sync.job_id, &sync.job.provider_type, after, PAGE).await?)
}

/// `check_again`: how long from now the stores can be judged that were missed just now.
async fn one(
    sync: &Sync<'_>,
    missing: &Missing,
    check_again: &mut Option<Duration>,
) -> Result<(), StepError> {
    let mut db = sync.context.pool.acquire().await?;
    let index = indexes::find(&mut db, &missing.domain_id, missing.id).await?;
    drop(db);
    let store = &missing.external_id;
    // It has been deleted, or has another store by now.
    let Some(index) = index.filter(|index| index.external_id.as_ref() == Some(store)) else {
        let mut tx = sync.write().await?;
        dealt_with(sync, &mut tx, store, ItemState::Skipped).await?;
        return Ok(tx.commit().await?);
    };
    // It is not among what the run's own listing wrote down.
    let others = sync.read().await?.items_total as usize;
    let listing = Listing::Lacks { others };
    match presence::of_store(&sync.observer(), &index, store, Some(listing)).await {
        Ok(Presence::There(found)) => not_missing(sync, missing, &found).await,
        Ok(Presence::Gone) => gone(sync, missing).await,
        Ok(Presence::CheckAgain(after)) => {
            *check_again = Some(check_again.map_or(after, |other| other.max(after)));
            Ok(())
        }
        Ok(Presence::Unknown(doubt)) => {
            let mut tx = sync.write().await?;
            let reason = format!("it is not known whether it still exists: {doubt}");
            let detail = json!({"external_id": store, "index_id": index.id, "reason": reason});
            sync.find(&mut tx, FindingKind::StoresSkipped, store, &detail)
                .await?;
            dealt_with(sync, &mut tx, store, ItemState::Skipped).await?;
            Ok(tx.commit().await?)
        }
        Err(StepError::Fail { error }) => {
            let mut tx = sync.write().await?;
            sync.error(&mut tx, store, &error).await?;
            dealt_with(sync, &mut tx, store, ItemState::Failed).await?;
            Ok(tx.commit().await?)
        }
        Err(error) => Err(error),
    }
}

/// The listing had a hole, or the store was made after its last page.
async fn not_missing(sync: &Sync<'_>, missing: &Missing, store: &VectorStore) -> Result<(), StepError> {
    tracing::warn!(store = store.id, "the listing left out a store that is there");
    let mut tx = sync.write().await?;
    let total = sync.read_in(&mut tx).await?.items_total;
    let added = items::add(
        &mut tx,
        &sync.job_id,
        total,
        &[(&missing.external_id, &store.raw)],
    )
    .await?;
    let total = total + u32::try_from(added).unwrap_or_default();
    syncs::set_total(&mut tx, &sync.job_id, total).await?;
    Ok(tx.commit().await?)
}

async fn gone(sync: &Sync<'_>, missing: &Missing) -> Result<(), StepError> {
    let store = &missing.external_id;
    let mut tx = sync.begin().await?;
    let index = indexes::find_for_update(&mut tx, &missing.domain_id, missing.id).await?;
    sync.claim.progress(&mut tx).await?;
    let Some(index) = index.filter(|index| index.external_id.as_ref() == Some(store)) else {
        return Ok(());
    };
    let key = index_concurrency_key(index.id);
    let busy = sync.context.queue.find_key_holder(&mut tx, &key).await?.is_some();
    let grace = sync.provider.capabilities().settle_grace;
    if busy || may_be_young(&mut tx, &index, grace).await? {
        let reason = if busy {
            "a job is at work on the index"
        } else {
            "its store was made a moment ago"
        };
        let detail = json!({"external_id": store, "index_id": index.id, "reason": reason});
        sync.find(&mut tx, FindingKind::StoresSkipped, store, &detail)
            .await?;
        dealt_with(sync, &mut tx, store, ItemState::Skipped).await?;
        return Ok(tx.commit().await?);
    }
    let copies = if sync.job.dry_run {
        imports::count_copies_of(&mut tx, &index.provider_type, index.id).await?
    } else {
        detach(&mut tx, &index, store).await?
    };
    let detail = json!({
        "external_id": store, "index_id": index.id, "domain_id": index.domain_id, "name": index.name,
    });
    sync.find(&mut tx, FindingKind::StoresMissing, store, &detail)
        .await?;
    sync.count(&mut tx, 0, |totals| {
        totals.counts.indexes_detached += 1;
        totals.counts.provider_uploads_deleted += copies;
    })
    .await?;
    dealt_with(sync, &mut tx, store, ItemState::Gone).await?;
    Ok(tx.commit().await?)
}

/// As an item the store is not missing any more: it is counted once, whatever happens to this claim.
async fn dealt_with(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    store: &str,
    state: ItemState,
) -> Result<(), StepError> {
    items::add(db, &sync.job_id, 0, &[(store, &Value::Null)]).await?;
    Ok(items::move_on(db, &sync.job_id, store, &[ItemState::Waiting], state).await?)
}
