//! The sync of one index: one look at its store, settled. It never waits for indexing.
//!
//! Reads the index and its attachments. Writes both, and the look. Calls get of the store and list of its files. Safe to
//! repeat because it only copies what the provider says, in the transaction that ends the job.

use std::time::Duration;

use apalis_mariadb::Claim;
use rag_db::attachments;
use rag_db::indexes::{self, Index};
use rag_domain::{FileCounts, IndexingStatus};
use rag_jobs::IndexSync;
use rag_providers::{ErrorKind, Provider};
use sqlx::{MySql, Transaction};

use super::detach::{detach, may_be_young};
use super::look::Look;
use super::settle::{Difference, Report, settle_index};
use crate::context::Context;
use crate::halt::Halt;

const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

pub(crate) async fn run(context: &Context, claim: &Claim, job: &IndexSync) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    let index = indexes::find(&mut db, &job.domain_id, job.index_id).await?;
    let index = index.ok_or_else(no_index)?;
    let store = index.external_id.clone().ok_or_else(|| Halt::Fail {
        error: "the index has no vector store".to_owned(),
    })?;
    // Before anything is asked.
    let provider = context.connections.open(&mut db, &index.provider_type).await?;
    drop(db);
    match Look::at(provider.as_ref(), &store).await {
        Ok(look) => settle(context, claim, job, provider.as_ref(), &look).await,
        Err(error) if error.kind == ErrorKind::NotFound => {
            gone(context, claim, job, provider.as_ref(), &store).await
        }
        Err(error) => Err(error.into()),
    }
}

fn no_index() -> Halt {
    Halt::Fail {
        error: "the index no longer exists".to_owned(),
    }
}

/// The index's row, locked, and the job's; the index still has this store.
async fn begin(
    context: &Context,
    claim: &Claim,
    job: &IndexSync,
    store: &str,
) -> Result<(Transaction<'static, MySql>, Index), Halt> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    let index = index.ok_or_else(no_index)?;
    if index.external_id.as_deref() != Some(store) {
        return Err(Halt::snooze(Duration::ZERO, "the index has another store by now"));
    }
    Ok((tx, index))
}

async fn settle(
    context: &Context,
    claim: &Claim,
    job: &IndexSync,
    provider: &dyn Provider,
    look: &Look,
) -> Result<(), Halt> {
    let (mut tx, index) = begin(context, claim, job, &look.store.id).await?;
    let rows = attachments::list(&mut tx, index.id).await?;
    let difference = Difference::new(&rows, look, provider.capabilities().settle_grace);
    difference.write(&mut tx).await?;
    let report = settle_index(&mut tx, &index, look, &difference).await?;
    complete(claim, tx, &report).await?;
    tracing::info!(status = %report.indexing_status, files = look.files.len(), "the index is in sync");
    Ok(())
}

async fn gone(
    context: &Context,
    claim: &Claim,
    job: &IndexSync,
    provider: &dyn Provider,
    store: &str,
) -> Result<(), Halt> {
    let (mut tx, index) = begin(context, claim, job, store).await?;
    if may_be_young(&mut tx, &index, provider.capabilities().settle_grace).await? {
        return Err(Halt::snooze(
            NOT_VISIBLE_YET,
            "the provider does not show the new vector store yet",
        ));
    }
    let detached = !job.keep_gone;
    if detached {
        detach(&mut tx, &index, store).await?;
    }
    let report = Report {
        external_id: store.to_owned(),
        store_status: None,
        file_counts: FileCounts::default(),
        indexing_status_before: index.indexing_status,
        indexing_status: if detached {
            IndexingStatus::NotIndexed
        } else {
            index.indexing_status
        },
        files_changed: 0,
        files_missing: 0,
        files_unknown: 0,
        gone: true,
        detached,
    };
    complete(claim, tx, &report).await
}

async fn complete(claim: &Claim, mut tx: Transaction<'static, MySql>, report: &Report) -> Result<(), Halt> {
    let output = serde_json::to_value(report).map_err(|error| Halt::Fail {
        error: error.to_string(),
    })?;
    claim.complete(&mut tx, &output).await?;
    Ok(tx.commit().await?)
}
