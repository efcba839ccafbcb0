//! Phase `stores`: stores side by side, begun in the order of the listing. What can't be dealt with now is tried once more when
//! all others are through.
//!
//! Another store is begun as long as no call waits for its turn: then the stores that are worked on don't keep the provider busy. A
//! few stores with many files are enough for that, of stores whose files need not be read it takes many.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use rag_db::syncs::Run;
use rag_db::syncs::items::{self, Item};
use rag_db::{indexes, intents};
use rag_domain::{FindingKind, IndexId, ItemState};
use rag_providers::VectorStore;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::file::Files;
use super::run::{FAILURES_IN_A_ROW, SLICE, StoreError, Sync, totals_of};
use super::store::{self, StoreOutcome, StoreOwner};
use crate::observe::tagged_stores::{TAG_INDEX, TAG_INTENT};
use crate::step_error::StepError;

const PAGE: u32 = 100;
/// In the stores that are worked on, by the provider's count: their listings are in memory. A store with more is alone.
const MAX_FILES: u64 = 10_000;
/// How soon another store is begun where the last one has not led to a call yet.
const NEXT_STORE_AFTER: Duration = Duration::from_millis(5);
/// What is under way when the worker is told to stop gets this long to come to its end.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// A store is to be tried again, so long from now.
struct TryAgain {
    after: Duration,
    store: String,
}

/// Goes through all stores, once more through those that were postponed, and ends with the first error that is no single
/// store's: by then nothing is under way.
pub(super) async fn run(sync: &Sync<'_>, run: &Run) -> Result<(), StepError> {
    tracing::debug!(done = run.items_done, total = run.items_total, "stores");
    if totals_of(run).stopped.is_some() {
        return Ok(());
    }
    let files = Files::new(sync);
    for state in [ItemState::Waiting, ItemState::Postponed] {
        let mut pass = Pass {
            sync,
            files: &files,
            state,
            behind: None,
            is_listed: false,
            queue: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            files_under_way: 0,
            error: None,
            try_again: None,
        };
        pass.drive().await;
        if let Some(error) = pass.error {
            return Err(error);
        }
        if let Some(TryAgain { after, store }) = pass.try_again {
            let reason = format!("store {store} does not show files that were in it: a second check decides");
            return Err(StepError::snooze(after, reason));
        }
        if sync.is_winding_down() {
            // Too much was gone, and the run's row says so.
            return Ok(());
        }
    }
    Ok(())
}

/// What came of a store, and how many files it had.
type Ended = (u64, Result<Option<TryAgain>, StepError>);

/// Once through all stores in a state.
struct Pass<'s> {
    sync: &'s Sync<'s>,
    files: &'s Files<'s>,
    state: ItemState,
    /// The last one that was read.
    behind: Option<(u32, String)>,
    /// All were read.
    is_listed: bool,
    queue: VecDeque<Item>,
    under_way: FuturesUnordered<BoxFuture<'s, Ended>>,
    files_under_way: u64,
    error: Option<StepError>,
    try_again: Option<TryAgain>,
}

impl Pass<'_> {
    async fn drive(&mut self) {
        let cancellation = self.sync.claim.cancellation();
        let mut cut_off_at = None;
        loop {
            if let Err(error) = self.begin().await {
                self.stop(error);
            }
            if self.under_way.is_empty() && (self.sync.is_winding_down() || self.queue.is_empty()) {
                return;
            }
            let may_begin = !self.sync.is_winding_down() && self.fits();
            let has_room = self.sync.calls.has_room();
            tokio::select! {
                biased;
                () = cancellation.cancelled(), if cut_off_at.is_none() => {
                    self.stop(StepError::Stopped);
                    cut_off_at = Some(Instant::now() + STOP_GRACE);
                }
                () = until(cut_off_at) => self.under_way.clear(),
                Some(ended) = self.under_way.next(), if !self.under_way.is_empty() => self.ended(ended),
                () = self.sync.calls.until_room(), if may_begin && !has_room => {}
                () = tokio::time::sleep(NEXT_STORE_AFTER), if may_begin && has_room => {}
            }
        }
    }

    /// Nothing new begins.
    fn stop(&mut self, error: StepError) {
        self.sync.wind_down();
        let says_little = |error: &StepError| matches!(error, StepError::Snooze { .. });
        if self.error.as_ref().is_none_or(says_little) {
            self.error = Some(error);
        }
    }

    fn ended(&mut self, (files, result): Ended) {
        self.files_under_way -= files;
        match result {
            Ok(None) => {}
            Ok(Some(again)) => {
                if self
                    .try_again
                    .as_ref()
                    .is_none_or(|other| other.after < again.after)
                {
                    self.try_again = Some(again);
                }
            }
            Err(error) => self.stop(error),
        }
    }

    /// Begins stores as long as calls are wanting; beyond one for each call that may be under way, one at a time.
    async fn begin(&mut self) -> Result<(), StepError> {
        loop {
            if self.sync.is_winding_down() {
                return Ok(());
            }
            if self.queue.is_empty() && !self.is_listed {
                self.read_page().await?;
            }
            if !self.fits() || !self.sync.calls.has_room() {
                return Ok(());
            }
            self.sync.check_running(SLICE)?;
            let Some(item) = self.queue.pop_front() else {
                return Ok(());
            };
            let (files, sync, of_all) = (files_in(&item), self.sync, self.files);
            self.files_under_way += files;
            let work = async move { (files, one(sync, of_all, item).await) };
            self.under_way.push(work.boxed());
            if self.under_way.len() >= self.sync.calls.limit() {
                return Ok(());
            }
        }
    }

    async fn read_page(&mut self) -> Result<(), StepError> {
        let mut db = self.sync.context.pool.acquire().await?;
        let behind = self
            .behind
            .as_ref()
            .map(|(position, item)| (*position, item.as_str()));
        let page = items::list_behind(&mut db, &self.sync.job_id, self.state, behind, PAGE).await?;
        match page.last() {
            Some(last) => self.behind = Some((last.position, last.item.clone())),
            None => self.is_listed = true,
        }
        self.queue.extend(page);
        Ok(())
    }

    /// Whether the next store may be worked on beside the others.
    fn fits(&self) -> bool {
        let most = self.sync.context.sync.file_concurrency;
        self.queue.front().is_some_and(|next| {
            self.under_way.is_empty()
                || (self.under_way.len() < most && self.files_under_way + files_in(next) <= MAX_FILES)
        })
    }
}

/// By the provider's count.
fn files_in(item: &Item) -> u64 {
    let detail = item.detail.as_ref();
    detail
        .and_then(|store| store["file_counts"]["total"].as_u64())
        .unwrap_or(0)
}

/// Ends at this time; never, if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn one(sync: &Sync<'_>, files: &Files<'_>, item: Item) -> Result<Option<TryAgain>, StepError> {
    let item = &item;
    let store = match read(item) {
        Ok(store) => store,
        Err(error) => return fail(sync, item, &error.to_string()).await,
    };
    let owner = match owner(sync, &store).await? {
        Ok(owner) => owner,
        Err(reason) => return skip(sync, item, &reason).await,
    };
    match store::run(sync, files, item, store, owner).await? {
        Ok(StoreOutcome::Done) => Ok(None),
        // A build that is over soon leaves a store that can be synced; and then it is late enough for most second checks.
        Ok(StoreOutcome::Busy | StoreOutcome::CheckAgain(_)) if item.state == ItemState::Waiting => {
            postpone(sync, item, false).await
        }
        Ok(StoreOutcome::Busy) => skip(sync, item, "a job is at work on the index").await,
        Ok(StoreOutcome::CheckAgain(after)) => Ok(Some(TryAgain {
            after,
            store: item.item.clone(),
        })),
        Ok(StoreOutcome::Unknown(reason)) => {
            skip(sync, item, &format!("nothing is known of it: {reason}")).await
        }
        Ok(StoreOutcome::Vanished) => skip(sync, item, "the store was deleted meanwhile").await,
        Err(StoreError::StopsRun(error)) => Err(error),
        Err(StoreError::Permanent(error)) => fail(sync, item, &error).await,
        // The run ends for another reason, and comes back to this store.
        Err(StoreError::Transient(_)) if sync.is_winding_down() => Ok(None),
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

async fn skip(sync: &Sync<'_>, item: &Item, reason: &str) -> Result<Option<TryAgain>, StepError> {
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
    tx.commit().await?;
    Ok(None)
}

/// The index of the store says so too, unless this is only a report.
async fn fail(sync: &Sync<'_>, item: &Item, error: &str) -> Result<Option<TryAgain>, StepError> {
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
    tx.commit().await?;
    Ok(None)
}

async fn postpone(sync: &Sync<'_>, item: &Item, failed: bool) -> Result<Option<TryAgain>, StepError> {
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
    tx.commit().await?;
    Ok(None)
}

async fn forget_failures(sync: &Sync<'_>) -> Result<(), StepError> {
    let mut tx = sync.write().await?;
    sync.count(&mut tx, 0, |totals| totals.failures_in_a_row = 0)
        .await?;
    Ok(tx.commit().await?)
}
