//! Phase `stores`: one store after another, in the order of the listing. What can't be dealt with now is tried once more when
//! all others are through.

use rag_db::syncs::Run;
use rag_db::syncs::items::{self, Item};
use rag_db::{indexes, intents};
use rag_domain::{FindingKind, IndexId, ItemState};
use rag_providers::VectorStore;
use serde_json::{Value, json};

use super::run::{FAILURES_IN_A_ROW, SLICE, StoreError, Sync};
use super::store::{self, StoreOutcome, StoreOwner};
use crate::observe::tagged_stores::{TAG_INDEX, TAG_INTENT};
use crate::step_error::StepError;

const PAGE: u32 = 20;

pub(super) async fn run(sync: &Sync<'_>, run: &Run) -> Result<(), StepError> {
    tracing::debug!(done = run.items_done, total = run.items_total, "stores");
    loop {
        let mut db = sync.context.pool.acquire().await?;
        let mut next = items::list(&mut db, &sync.job_id, ItemState::Waiting, PAGE).await?;
        if next.is_empty() {
            next = items::list(&mut db, &sync.job_id, ItemState::Postponed, PAGE).await?;
        }
        drop(db);
        if next.is_empty() {
            return Ok(());
        }
        for item in &next {
            sync.check_running(SLICE)?;
            one(sync, item).await?;
            if sync.totals().await?.stopped.is_some() {
                return Ok(());
            }
        }
    }
}

async fn one(sync: &Sync<'_>, item: &Item) -> Result<(), StepError> {
    let store = match read(item) {
        Ok(store) => store,
        Err(error) => return fail(sync, item, &error.to_string()).await,
    };
    let owner = match owner(sync, &store).await? {
        Ok(owner) => owner,
        Err(reason) => return skip(sync, item, &reason).await,
    };
    match store::run(sync, item, store, owner).await? {
        Ok(StoreOutcome::Done) => Ok(()),
        // A build that is over soon leaves a store that can be synced; and then it is late enough for most second checks.
        Ok(StoreOutcome::Busy | StoreOutcome::CheckAgain(_)) if item.state == ItemState::Waiting => {
            postpone(sync, item, false).await
        }
        Ok(StoreOutcome::Busy) => skip(sync, item, "a job is at work on the index").await,
        Ok(StoreOutcome::CheckAgain(after)) => Err(StepError::snooze(
            after,
            format!(
                "store {} does not show files that were in it: a second check decides",
                item.item
            ),
        )),
        Ok(StoreOutcome::Unknown(reason)) => {
            skip(sync, item, &format!("nothing is known of it: {reason}")).await
        }
        Ok(StoreOutcome::Vanished) => skip(sync, item, "the store was deleted meanwhile").await,
        Err(StoreError::StopsRun(error)) => Err(error),
        Err(StoreError::Permanent(error)) => fail(sync, item, &error).await,
        Err(StoreError::Transient(error)) => {
            let failures = sync.totals().await?.failures_in_a_row;
            if failures + 1 >= FAILURES_IN_A_ROW {
                // The provider as a whole: the queue backs off. Nothing is counted against this store.
                forget_failures(sync).await?;
                return Err(StepError::Retry { error, after: None });
            }
            if item.state == ItemState::Waiting {
                postpone(sync, item, true).await
            } else {
                fail(sync, item, &error).await
            }
        }
    }
}

fn read(item: &Item) -> Result<VectorStore, serde_json::Error> {
    let raw = item.detail.clone().unwrap_or(Value::Null);
    let mut store: VectorStore = serde_json::from_value(raw.clone())?;
    store.raw = raw;
    Ok(store)
}

/// Whose store it is, or why it is left alone.
async fn owner(sync: &Sync<'_>, store: &VectorStore) -> Result<Result<StoreOwner, String>, StepError> {
    let provider = &sync.job.provider_type;
    let mut db = sync.context.pool.acquire().await?;
    if let Some(owner) = indexes::find_by_store(&mut db, provider, &store.id).await? {
        if owner.is_deleted {
            return Ok(Err("its index is being deleted".to_owned()));
        }
        return Ok(Ok(StoreOwner::Known {
            id: owner.id,
            domain: owner.domain_id,
        }));
    }
    if intents::is_store_retired(&mut db, provider, &store.id).await? {
        return Ok(Err("it is ours, and about to be deleted".to_owned()));
    }
    // What we made ourselves is no stranger's: a build is about to record it, or has given it up.
    let tag = |name| store.metadata.get(name).and_then(Value::as_str);
    if let Some(index) = tag(TAG_INDEX).and_then(|id| id.parse::<IndexId>().ok())
        && (indexes::exists(&mut db, index).await? || intents::any_of_index(&mut db, index).await?)
    {
        let intent = tag(TAG_INTENT).unwrap_or_default();
        return Ok(Err(format!(
            "it was made for index {index} (intent {intent}), which has another store or none"
        )));
    }
    Ok(Ok(StoreOwner::Unknown))
}

async fn skip(sync: &Sync<'_>, item: &Item, reason: &str) -> Result<(), StepError> {
    let mut tx = sync.write().await?;
    let detail = json!({"external_id": item.item, "reason": reason});
    sync.find(&mut tx, FindingKind::StoresSkipped, &item.item, &detail)
        .await?;
    sync.count(&mut tx, 1, |_| {}).await?;
    items::move_on(
        &mut tx,
        &sync.job_id,
        &item.item,
        &[item.state],
        ItemState::Skipped,
    )
    .await?;
    Ok(tx.commit().await?)
}

/// The index of the store says so too, unless this is only a report.
async fn fail(sync: &Sync<'_>, item: &Item, error: &str) -> Result<(), StepError> {
    if !sync.job.dry_run {
        // By itself: an index's row is locked before the job's.
        let mut db = sync.context.pool.acquire().await?;
        let owner = indexes::find_by_store(&mut db, &sync.job.provider_type, &item.item).await?;
        if let Some(owner) = owner {
            let error = format!("the last sync failed: {error}");
            indexes::set_sync_error(&mut db, owner.id, Some(&error)).await?;
        }
    }
    let mut tx = sync.write().await?;
    sync.error(&mut tx, &item.item, error).await?;
    sync.count(&mut tx, 1, |totals| {
        totals.counts.stores_failed += 1;
        totals.failures_in_a_row += 1;
    })
    .await?;
    items::move_on(
        &mut tx,
        &sync.job_id,
        &item.item,
        &[item.state],
        ItemState::Failed,
    )
    .await?;
    Ok(tx.commit().await?)
}

async fn postpone(sync: &Sync<'_>, item: &Item, failed: bool) -> Result<(), StepError> {
    let mut tx = sync.write().await?;
    sync.count(&mut tx, 0, |totals| totals.failures_in_a_row += u32::from(failed))
        .await?;
    items::move_on(
        &mut tx,
        &sync.job_id,
        &item.item,
        &[item.state],
        ItemState::Postponed,
    )
    .await?;
    Ok(tx.commit().await?)
}

async fn forget_failures(sync: &Sync<'_>) -> Result<(), StepError> {
    let mut tx = sync.write().await?;
    sync.count(&mut tx, 0, |totals| totals.failures_in_a_row = 0)
        .await?;
    Ok(tx.commit().await?)
}
