//! The files of a store, each dealt with once in a run and domain: one that we hold is compared, as it lies on disk,
//! with the provider's bytes, which are hashed as they come and kept nowhere; one that we do not hold is downloaded and becomes a file of ours.
//!
//! Reads copies and findings. Writes files, copies and findings. Calls get and content of files. Safe to repeat because what
//! is through has its finding, in the transaction that wrote it; and a file that is about to be downloaded has one too, with
//! the id that it will get, so that what a killed worker left on disk under that id is removed.
//!
//! `fetch` asks the provider, some files at once; `record` writes what has come together, in one transaction.

mod fetch;
mod record;
mod status;

use std::collections::HashMap;

use fetch::{Fetched, Task};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use rag_db::imports;
use rag_db::syncs::findings;
use rag_domain::{DomainId, FileId, FindingKind};
use serde_json::{Value, json};
use sqlx::MySqlConnection;

use super::plan::find;
use super::run::{LONG_SLICE, StoreError, Sync};
use crate::observe::store_file::SeenFile;
use crate::step_error::StepError;
use status::{PENDING, WOULD_BE_CREATED, subject};

/// Files that are looked up together.
const CHUNK: usize = 100;

/// Both ids of every file.
pub(super) fn ids(files: &[SeenFile]) -> Vec<&str> {
    files
        .iter()
        .flat_map(|file| std::iter::once(file.file_id.as_str()).chain(file.other_store_id()))
        .collect()
}

/// Deals with all of them that the run has not dealt with.
pub(super) async fn all(
    sync: &Sync<'_>,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<Result<(), StoreError>, StepError> {
    let at_once = sync.context.sync.file_concurrency;
    for chunk in files.chunks(CHUNK) {
        let work = plan(sync, domain, chunk).await?;
        let mut fetching: Vec<BoxFuture<'_, Result<Fetched<'_>, StoreError>>> = Vec::new();
        for (file, task) in work {
            fetching.push(fetch::run(sync, domain, file, task).boxed());
        }
        let fetching = futures::stream::iter(fetching).buffer_unordered(at_once);
        // What is there together is written together; nothing waits for the others.
        let mut fetching = fetching.ready_chunks(at_once);
        while let Some(batch) = fetching.next().await {
            let (mut fetched, mut failure) = (Vec::new(), None);
            for result in batch {
                match result {
                    Ok(one) => fetched.push(one),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            record::all(sync, domain, fetched).await?;
            match failure {
                Some(StoreError::StopsRun(error)) => return Err(error),
                Some(failure) => return Ok(Err(failure)),
                None => sync.check_running(LONG_SLICE)?,
            }
        }
    }
    Ok(Ok(()))
}

/// Those that a report found that they would be created.
pub(super) async fn would_be_created(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<Vec<String>, StepError> {
    let results = results(sync, db, domain, files).await?;
    let would = |file: &&SeenFile| {
        let result = results.get(&subject(file, domain));
        result.is_some_and(|result| result["status"] == WOULD_BE_CREATED)
    };
    Ok(files
        .iter()
        .filter(would)
        .map(|file| file.file_id.clone())
        .collect())
}

async fn plan<'a>(
    sync: &Sync<'_>,
    domain: &DomainId,
    files: &'a [SeenFile],
) -> Result<Vec<(&'a SeenFile, Task)>, StepError> {
    let mut db = sync.context.pool.acquire().await?;
    let results = results(sync, &mut db, domain, files).await?;
    let known = imports::find_known(&mut db, &sync.job.provider_type, domain, &ids(files)).await?;
    let retired = imports::find_retired(&mut db, &sync.job.provider_type, &ids(files)).await?;
    drop(db);
    let (mut work, mut reserved) = (Vec::new(), Vec::new());
    for file in files {
        let subject = subject(file, domain);
        let result = results.get(&subject);
        let pending = result.filter(|result| result["status"] == PENDING);
        if result.is_some() && pending.is_none() {
            continue;
        }
        let ours = find(&known, file);
        if ours.is_some_and(|ours| ours.is_deleted) || (ours.is_none() && retired.contains(&file.file_id)) {
            // We are about to delete it, and do not take it over for that.
            continue;
        }
        let begun = pending.and_then(|result| result["file_id"].as_str()?.parse().ok());
        let task = match (ours, begun) {
            (Some(known), _) => Task::Compare(known.clone()),
            (None, _) if sync.job.dry_run => Task::Probe,
            (None, Some(id)) => Task::Import(id, true),
            (None, None) => {
                let id = FileId::new();
                let line = json!({
                    "external_file_id": file.file_id, "domain_id": domain, "file_id": id, "status": PENDING,
                });
                reserved.push((subject, line));
                Task::Import(id, false)
            }
        };
        work.push((file, task));
    }
    if !reserved.is_empty() {
        let mut tx = sync.write().await?;
        findings::put_many(&mut tx, &sync.job_id, FindingKind::FileResults, &reserved).await?;
        tx.commit().await?;
    }
    Ok(work)
}

async fn results(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<HashMap<String, Value>, StepError> {
    let subjects: Vec<String> = files.iter().map(|file| subject(file, domain)).collect();
    let found = findings::find_many(db, &sync.job_id, FindingKind::FileResults, &subjects).await?;
    Ok(found
        .into_iter()
        .map(|finding| (finding.subject, finding.detail))
        .collect())
}
