//! The files of a store, each dealt with once in a run and domain: one that we hold is compared, as it lies on disk,
//! with the provider's bytes, which are hashed as they come and kept nowhere; one that we do not hold is downloaded and becomes a file of ours.
//!
//! Reads copies and findings. Writes files, copies and findings. Calls get and content of files. Safe to repeat because what
//! is through has its finding, in the transaction that wrote it; and a file that is about to be downloaded has one too, with
//! the id that it will get, so that what a killed worker left on disk under that id is removed.
//!
//! | module | what |
//! |---|---|
//! | `fetch` | asks the provider about one file |
//! | `recorder` | gathers what has come, from all stores, into one transaction |
//! | `record` | writes it |
//! | `in_hand` | a file in several stores is one store's matter at a time |
//! | `status` | the words of the report |

mod fetch;
mod in_hand;
mod record;
mod recorder;
mod status;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use fetch::Task;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use in_hand::InHand;
use rag_db::imports::{self, Known};
use rag_db::syncs::findings;
use rag_domain::{DomainId, FileId, FindingKind};
use rag_jobs::Compare;
use recorder::Recorder;
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
pub(super) fn ids<'f>(files: impl IntoIterator<Item = &'f SeenFile>) -> Vec<&'f str> {
    files
        .into_iter()
        .flat_map(|file| std::iter::once(file.file_id.as_str()).chain(file.other_store_id()))
        .collect()
}

/// The files of all stores that a claim works on.
pub(super) struct Files<'a> {
    sync: &'a Sync<'a>,
    in_hand: InHand,
    recorder: Recorder,
}

impl<'a> Files<'a> {
    pub(super) fn new(sync: &'a Sync<'a>) -> Self {
        Self {
            sync,
            in_hand: InHand::default(),
            recorder: Recorder::default(),
        }
    }

    /// Deals with all of a store's files that the run has not dealt with.
    pub(super) async fn all(&self, domain: &DomainId, files: &[SeenFile]) -> Result<(), StoreError> {
        for chunk in files.chunks(CHUNK) {
            let mut rest: Vec<&SeenFile> = chunk.iter().collect();
            while !rest.is_empty() {
                // What another store is at is looked up when that is through with it.
                let held = self.in_hand.take(&mut rest, |file| subject(file, domain)).await;
                self.some(domain, &held.items).await?;
            }
        }
        Ok(())
    }

    /// After the first error nothing is begun, but what is under way comes to its end and is written down.
    async fn some(&self, domain: &DomainId, files: &[&SeenFile]) -> Result<(), StoreError> {
        let (sync, fails) = (self.sync, AtomicBool::new(false));
        let work = plan(sync, domain, files).await?;
        let mut under_way: Vec<BoxFuture<'_, Result<(), StoreError>>> = Vec::with_capacity(work.len());
        for (file, task) in work {
            under_way.push(self.one(domain, file, task, &fails).boxed());
        }
        // Some wait for their turn, or to be written down.
        let at_once = 2 * sync.context.sync.file_concurrency;
        let mut under_way = futures::stream::iter(under_way).buffer_unordered(at_once);
        let mut failure: Option<StoreError> = None;
        while let Some(result) = under_way.next().await {
            if let Err(error) = result {
                fails.store(true, Ordering::Relaxed);
                failure = Some(match failure {
                    Some(first) => first.or_worse(error),
                    None => error,
                });
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(sync.check_running(LONG_SLICE)?),
        }
    }

    async fn one(
        &self,
        domain: &DomainId,
        file: &SeenFile,
        task: Task,
        fails: &AtomicBool,
    ) -> Result<(), StoreError> {
        if fails.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.sync.check_running(LONG_SLICE)?;
        let fetched = fetch::run(self.sync, domain, file, task).await?;
        Ok(self.recorder.record(self.sync, domain, fetched).await?)
    }
}

/// With the end of a store: which of its files were left out because they were found equal before. Answers how many the run had
/// not met yet.
pub(super) async fn matched_before(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    domain: &DomainId,
    files: &[SeenFile],
    known: &HashMap<String, Known>,
) -> Result<u64, StepError> {
    let left_out: Vec<_> = files
        .iter()
        .filter_map(|file| Some((file, find(known, file)?)))
        .filter(|(file, known)| is_left_out(sync, file, known))
        .collect();
    record::matched_before(sync, tx, domain, &left_out).await
}

fn is_left_out(sync: &Sync<'_>, file: &SeenFile, known: &Known) -> bool {
    sync.job.compare == Compare::Once && !known.is_deleted && known.was_found_equal(&file.file_id)
}

/// Those that a report found that they would be created.
pub(super) async fn would_be_created(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<Vec<String>, StepError> {
    let results = results(sync, db, domain, files.iter()).await?;
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
    files: &[&'a SeenFile],
) -> Result<Vec<(&'a SeenFile, Task)>, StepError> {
    let mut db = sync.context.pool.acquire().await?;
    let all = ids(files.iter().copied());
    let known = imports::find_known(&mut db, &sync.job.provider_type, domain, &all).await?;
    let files: Vec<&SeenFile> = files
        .iter()
        .copied()
        .filter(|file| !find(&known, file).is_some_and(|known| is_left_out(sync, file, known)))
        .collect();
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let results = results(sync, &mut db, domain, files.iter().copied()).await?;
    let all = ids(files.iter().copied());
    let retired = imports::find_retired(&mut db, &sync.job.provider_type, &all).await?;
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

async fn results<'f>(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    domain: &DomainId,
    files: impl Iterator<Item = &'f SeenFile>,
) -> Result<HashMap<String, Value>, StepError> {
    let subjects: Vec<String> = files.map(|file| subject(file, domain)).collect();
    let found = findings::find_many(db, &sync.job_id, FindingKind::FileResults, &subjects).await?;
    Ok(found
        .into_iter()
        .map(|finding| (finding.subject, finding.detail))
        .collect())
}
