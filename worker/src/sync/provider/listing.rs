//! Phase `list`: the provider's stores, all of them, written down page by page.
//!
//! Calls list of stores. The run holds the cursor after the last page that was written, in the transaction that wrote it. A
//! listing that fails has detached nothing: nothing reads it before its last page is in.

use rag_db::attachments;
use rag_db::indexes;
use rag_db::syncs::{self, items};
use rag_domain::SyncPhase;
use rag_providers::{Cursor, ErrorKind, Operation, Order, ProviderError, VectorStore};
use serde_json::Value;

use super::run::{LONG_SLICE, Sync};
use crate::observe::listing::Pages;
use crate::step_error::StepError;

pub(super) async fn run(sync: &Sync<'_>, cursor: Option<String>) -> Result<(), StepError> {
    // Oldest first: what is made meanwhile comes at the end.
    let mut pages =
        Pages::of_stores(sync.provider.as_ref(), Order::Ascending).starting_after(cursor.map(Cursor));
    loop {
        sync.check_running(LONG_SLICE)?;
        let had_cursor = pages.cursor().is_some();
        let stores = match pages.next().await {
            Ok(Some(stores)) => stores,
            Ok(None) => return Ok(()),
            Err(error) if had_cursor && is_about_the_cursor(&error) => return start_anew(sync, &error).await,
            Err(error) => return Err(error.into()),
        };
        record(sync, &stores, pages.cursor()).await?;
    }
}

/// The cursor's own store may have been deleted since.
fn is_about_the_cursor(error: &ProviderError) -> bool {
    matches!(error.kind, ErrorKind::NotFound | ErrorKind::InvalidRequest)
}

async fn start_anew(sync: &Sync<'_>, error: &ProviderError) -> Result<(), StepError> {
    tracing::warn!(%error, "the listing can't go on where it was: it begins anew");
    let mut tx = sync.write().await?;
    items::clear(&mut tx, &sync.job_id).await?;
    syncs::set_total(&mut tx, &sync.job_id, 0).await?;
    syncs::go_to(&mut tx, &sync.job_id, SyncPhase::LIST, None).await?;
    tx.commit().await?;
    // A provider that refuses every cursor would have us begin for ever.
    Err(StepError::Retry {
        error: format!("the listing of stores could not go on: {error}"),
        after: None,
    })
}

async fn record(sync: &Sync<'_>, page: &[VectorStore], next: Option<&Cursor>) -> Result<(), StepError> {
    let mut tx = sync.write().await?;
    let total = sync.read_in(&mut tx).await?.items_total;
    let stores: Vec<(&str, &Value)> = page.iter().map(|store| (store.id.as_str(), &store.raw)).collect();
    let added = items::add(&mut tx, &sync.job_id, total, &stores).await?;
    if added == 0 && next.is_some() && !stores.is_empty() {
        return Err(ProviderError::new(
            ErrorKind::Protocol,
            Operation::ListVectorStores,
            "the listing repeats itself and would loop",
        )
        .into());
    }
    let total = total + u32::try_from(added).unwrap_or(u32::MAX);
    syncs::set_total(&mut tx, &sync.job_id, total).await?;
    if let Some(cursor) = next {
        syncs::go_to(&mut tx, &sync.job_id, SyncPhase::LIST, Some(cursor.as_str())).await?;
    } else {
        let provider = &sync.job.provider_type;
        let indexes = indexes::count_with_store(&mut tx, provider).await?;
        let files = attachments::count_at(&mut tx, provider).await?;
        sync.count(&mut tx, 0, |totals| {
            (totals.indexes_known, totals.files_known) = (indexes, files);
        })
        .await?;
        syncs::go_to(&mut tx, &sync.job_id, SyncPhase::COUNT_MISSING, None).await?;
        tracing::info!(stores = total, "all stores are listed");
    }
    Ok(tx.commit().await?)
}
