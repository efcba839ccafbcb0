//! Deletions that wait: at providers, and of rows that are hidden and have no job any more.
//!
//! Reads and writes intents and tombstones. Calls delete of stores and files. Safe to do from several workers at once.

use rag_db::{files, indexes, intents};
use rag_jobs::{FileDelete, IndexDelete, JobSpec};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::delete::abandoned_uploads;
use crate::delete::pending::{Site, delete_retired};
use crate::step_error::StepError;

/// Rows per statement.
const ROWS: u32 = 200;

/// Carries out what waits at every provider that can be used now. One that fails is no reason to pass by the others.
pub(super) async fn clean_up_everywhere(
    context: &Context,
    stop: &CancellationToken,
) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    let provider_types = intents::list_providers_to_clean_up(&mut db).await?;
    drop(db);
    for provider_type in provider_types {
        let mut db = context.pool.acquire().await?;
        // A provider that can't be used now keeps what waits there; `open` has said why.
        let Ok(provider) = context.connections.open(&mut db, &provider_type).await else {
            continue;
        };
        drop(db);
        let site = Site {
            pool: &context.pool,
            provider_type: &provider_type,
            provider: provider.as_ref(),
            stop,
        };
        let swept = abandoned_uploads::sweep(context, site).await;
        for result in [swept, delete_retired(site, 20).await] {
            if let Err(error) = result {
                tracing::warn!(provider = provider_type, %error, "cleaning up failed, it will be tried again");
            }
        }
    }
    Ok(())
}

/// A deletion can't be taken back: whatever became of its job (cancelled, lost with too many workers), what is hidden gets
/// another one.
pub(super) async fn revive_deletions(context: &Context) -> Result<(), StepError> {
    let mut after = None;
    loop {
        let mut db = context.pool.acquire().await?;
        let tombstones = indexes::list_tombstones(&mut db, None, after, ROWS).await?;
        drop(db);
        for tombstone in &tombstones {
            let job = IndexDelete {
                index_id: tombstone.index.id,
                domain_id: tombstone.index.domain_id.clone(),
            };
            revive(context, &job).await?;
        }
        match tombstones.last() {
            Some(last) => after = Some((last.deleted_at, last.index.id)),
            None => break,
        }
    }
    let mut after = None;
    loop {
        let mut db = context.pool.acquire().await?;
        let tombstones = files::list_tombstones(&mut db, after, ROWS).await?;
        drop(db);
        for tombstone in &tombstones {
            let job = FileDelete {
                file_id: tombstone.file.id,
                domain_id: tombstone.file.domain_id.clone(),
            };
            revive(context, &job).await?;
        }
        match tombstones.last() {
            Some(last) => after = Some((last.deleted_at, last.file.id)),
            None => return Ok(()),
        }
    }
}

/// A job for something that is gone meanwhile finds nothing to do.
async fn revive<J: JobSpec>(context: &Context, job: &J) -> Result<(), StepError> {
    let kind = J::KIND;
    let mut tx = context.pool.begin().await?;
    if context
        .queue
        .find_active(&mut tx, kind, &job.unique_key())
        .await?
        .is_some()
    {
        return Ok(());
    }
    let enqueued = context
        .queue
        .enqueue(&mut tx, job.to_job(context.job_limits())?)
        .await?;
    tx.commit().await?;
    context.queue.notify(kind);
    if !enqueued.existing {
        tracing::warn!(kind, job.id = %enqueued.id, "a deletion had no job any more: it has one again");
    }
    Ok(())
}
