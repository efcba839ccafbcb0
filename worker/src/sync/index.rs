//! The sync of one index: its store is observed once, and what was seen is applied. It never waits for indexing.
//!
//! Reads the index and its attachments. Writes both, and what was seen. Calls get of the store and list of its files. Safe to
//! repeat because it only copies what the provider says, in the transaction that ends the job.

use std::collections::HashSet;
use std::time::Duration;

use apalis_mariadb::Claim;
use chrono::Utc;
use rag_db::indexes::{self, Index};
use rag_db::{attachments, index_files};
use rag_domain::{AttachmentId, FileCounts, IndexingStatus};
use rag_jobs::IndexSync;
use rag_providers::{Ability, Provider};
use sqlx::{MySql, Transaction};

use super::apply::{Difference, Report, apply_listing};
use super::lost_store::{detach, may_be_young};
use crate::context::Context;
use crate::observe::listing::{StoreListing, files_in};
use crate::observe::missing_files::{self, Absent};
use crate::observe::presence::{self, Presence};
use crate::observe::{Observer, is_absent};
use crate::step_error::StepError;

const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

pub(crate) async fn run(context: &Context, claim: &Claim, job: &IndexSync) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    let index = indexes::find(&mut db, &job.domain_id, job.index_id).await?;
    let index = index.ok_or_else(no_index)?;
    let store = index.external_id.clone().ok_or_else(|| StepError::Fail {
        error: "the index has no vector store".to_owned(),
    })?;
    // Before anything is asked.
    let (provider, learned) = context
        .connections
        .open_learned(&mut db, &index.provider_type)
        .await?;
    let rows = attachments::list(&mut db, index.id).await?;
    drop(db);
    let observer = Observer {
        context,
        claim,
        provider: provider.as_ref(),
        learned: &learned,
    };
    let begun_at = Utc::now();
    let found = match presence::of_store(&observer, &index, &store, None).await? {
        Presence::There(found) => *found,
        Presence::CheckAgain(after) => {
            let reason = format!("the provider did not find vector store {store}: a second check decides");
            return Err(StepError::snooze(after, reason));
        }
        Presence::Unknown(doubt) => {
            let unknown = format!("it is not known whether the vector store still exists: {doubt}");
            return not_known(&observer, job, &store, None, unknown).await;
        }
        Presence::Gone => return gone(context, claim, job, provider.as_ref(), &store).await,
    };
    let files = match files_in(provider.as_ref(), &found, None).await {
        Ok(files) => files,
        // A server that has shown the files of stores will do so again.
        Err(error) if is_absent(&error) && learned.holds(Ability::ListStoreFiles) == Some(true) => {
            return Err(StepError::Retry {
                error: format!("the files of the vector store could not be listed: {error}"),
                after: None,
            });
        }
        Err(error) if is_absent(&error) => {
            let unknown = format!("the provider does not list the files of its stores: {error}");
            return not_known(&observer, job, &store, Some(found.status.to_string()), unknown).await;
        }
        Err(error) => return Err(error.into()),
    };
    let how = "the files of a store were listed";
    observer.learn(Ability::ListStoreFiles, true, how).await?;
    let listing = StoreListing {
        store: found,
        files,
        begun_at,
    };
    match missing_files::judge(&observer, index.id, &listing, &rows).await? {
        Absent::CheckAgain { after, files } => Err(StepError::snooze(
            after,
            format!("the vector store does not show {files} files that were in it: a second check decides"),
        )),
        Absent::Known { left, uncertain } => apply(context, claim, job, &listing, &left, uncertain).await,
    }
}

fn no_index() -> StepError {
    StepError::Fail {
        error: "the index no longer exists".to_owned(),
    }
}

/// The index's row, locked, and the job's; the index still has this store.
async fn begin(
    context: &Context,
    claim: &Claim,
    job: &IndexSync,
    store: &str,
) -> Result<(Transaction<'static, MySql>, Index), StepError> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    let index = index.ok_or_else(no_index)?;
    if index.external_id.as_deref() != Some(store) {
        return Err(StepError::snooze(
            Duration::ZERO,
            "the index has another store by now",
        ));
    }
    Ok((tx, index))
}

async fn apply(
    context: &Context,
    claim: &Claim,
    job: &IndexSync,
    listing: &StoreListing,
    left: &HashSet<AttachmentId>,
    uncertain: u64,
) -> Result<(), StepError> {
    let (mut tx, index) = begin(context, claim, job, &listing.store.id).await?;
    let rows = attachments::list(&mut tx, index.id).await?;
    let links = index_files::list(&mut tx, index.id).await?;
    let difference = Difference::new(&rows, listing, left);
    difference
        .write(&mut tx, &links.iter().map(|link| link.file_id).collect())
        .await?;
    let report = apply_listing(&mut tx, &index, listing, &difference, uncertain).await?;
    complete(claim, tx, &report).await?;
    tracing::info!(status = %report.indexing_status, files = listing.files.len(), "the index is in sync");
    Ok(())
}

/// Nothing is known, so nothing is changed; the report says so.
async fn not_known(
    observer: &Observer<'_>,
    job: &IndexSync,
    store: &str,
    store_status: Option<String>,
    unknown: String,
) -> Result<(), StepError> {
    tracing::warn!(store, unknown, "the sync ends without an answer");
    let (tx, index) = begin(observer.context, observer.claim, job, store).await?;
    let report = Report {
        store_status,
        unknown: Some(unknown),
        ..without_files(store, &index)
    };
    complete(observer.claim, tx, &report).await
}

fn without_files(store: &str, index: &Index) -> Report {
    Report {
        external_id: store.to_owned(),
        store_status: None,
        file_counts: FileCounts::default(),
        indexing_status_before: index.indexing_status,
        indexing_status: index.indexing_status,
        files_changed: 0,
        files_missing: 0,
        files_uncertain: 0,
        files_unknown: 0,
        gone: false,
        detached: false,
        unknown: None,
    }
}

async fn gone(
    context: &Context,
    claim: &Claim,
    job: &IndexSync,
    provider: &dyn Provider,
    store: &str,
) -> Result<(), StepError> {
    let (mut tx, index) = begin(context, claim, job, store).await?;
    if may_be_young(&mut tx, &index, provider.capabilities().settle_grace).await? {
        return Err(StepError::snooze(
            NOT_VISIBLE_YET,
            "the provider does not show the new vector store yet",
        ));
    }
    let detached = !job.keep_gone;
    if detached {
        detach(&mut tx, &index, store).await?;
    }
    let report = Report {
        indexing_status: if detached {
            IndexingStatus::NotIndexed
        } else {
            index.indexing_status
        },
        gone: true,
        detached,
        ..without_files(store, &index)
    };
    complete(claim, tx, &report).await
}

async fn complete(
    claim: &Claim,
    mut tx: Transaction<'static, MySql>,
    report: &Report,
) -> Result<(), StepError> {
    claim.complete(&mut tx, &serde_json::to_value(report)?).await?;
    Ok(tx.commit().await?)
}
