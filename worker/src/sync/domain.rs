//! The sync of a domain: a job for each of its indexes that has a store, some at a time, and what came of them.
//!
//! Reads indexes and the children's jobs. Writes the run, its items, and the children. Calls nothing itself. Safe to repeat
//! because a child is enqueued in the transaction that marks its item, and an item is through in the one that counts it.
//! The job checks its children, does what is to be done now, and snoozes: it holds no slot while its children work, and survives any
//! worker.
//!
//! Children only report stores that are gone. When all are through, and they are not too many ([`rag_domain::DeletionThreshold`]) or
//! it is forced, a second round of children detaches those indexes.

use std::time::Duration;

use apalis_mariadb::{Claim, Job, JobId, JobKind as _, QueueError, State, UnreadableJob};
use rag_db::store_polls;
use rag_db::syncs::{self, findings, items};
use rag_domain::{DeletionThreshold, FindingKind, IndexId, ItemState, SyncPhase};
use rag_jobs::{DomainSync, IndexSync, JobSpec as _, index_concurrency_key};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{MySql, MySqlConnection, Transaction};

use crate::context::Context;
use crate::step_error::StepError;

/// Children that are active at once: a domain does not push others aside.
const WINDOW: u32 = 32;
const PAUSE: Duration = Duration::from_millis(200);
/// Errors in the job's output; all of them are among the findings.
const MAX_ERRORS: u32 = 200;

/// What is reported, kept in the run's row.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names are those of the result")]
struct Counts {
    indexes_total: u32,
    indexes_synced: u32,
    /// Looked at a moment ago, and not again.
    indexes_fresh: u32,
    /// Left to the job that is at work on them, which observes the store itself.
    indexes_busy: u32,
    indexes_detached: u32,
    indexes_failed: u32,
}

pub(crate) async fn run(context: &Context, claim: &Claim, job: &DomainSync) -> Result<(), StepError> {
    let sync = Sync {
        context,
        claim,
        job,
        job_id: claim.job_id().to_string(),
    };
    sync.begin().await?;
    loop {
        if claim.cancellation().is_cancelled() {
            return Err(StepError::Stopped);
        }
        sync.collect().await?;
        sync.ask().await?;
        let mut db = context.pool.acquire().await?;
        let active = items::count(&mut db, &sync.job_id, ItemState::Asked).await?;
        let run = syncs::find(&mut db, &sync.job_id).await?;
        drop(db);
        if active > 0 {
            let (done, total) = run.map_or((0, 0), |run| (run.items_done, run.items_total));
            return Err(StepError::snooze(
                PAUSE,
                format!("{done} of {total} indexes are through"),
            ));
        }
        if sync.conclude().await? {
            return Ok(());
        }
    }
}

struct Sync<'a> {
    context: &'a Context,
    claim: &'a Claim,
    job: &'a DomainSync,
    job_id: String,
}

impl Sync<'_> {
    async fn write(&self) -> Result<Transaction<'static, MySql>, StepError> {
        let mut tx = self.context.pool.begin().await?;
        self.claim.fence(&mut tx).await?;
        Ok(tx)
    }

    async fn begin(&self) -> Result<(), StepError> {
        let mut tx = self.write().await?;
        if syncs::begin(&mut tx, &self.job_id, SyncPhase::Indexes).await? {
            let provider = self.job.provider_type.as_deref();
            let added = items::add_indexes(&mut tx, &self.job_id, &self.job.domain_id, provider).await?;
            let total = u32::try_from(added).unwrap_or(u32::MAX);
            let counts = Counts {
                indexes_total: total,
                ..Counts::default()
            };
            syncs::set_total(&mut tx, &self.job_id, total).await?;
            syncs::set_counts(&mut tx, &self.job_id, &counts, 0).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Enqueues children until the window is full.
    async fn ask(&self) -> Result<(), StepError> {
        let mut tx = self.write().await?;
        let run = self.run_in(&mut tx).await?;
        let active = items::count(&mut tx, &self.job_id, ItemState::Asked).await?;
        let from = if run.phase == SyncPhase::DetachIndexes {
            ItemState::Gone
        } else {
            ItemState::Waiting
        };
        let next = items::list(&mut tx, &self.job_id, from, WINDOW.saturating_sub(active)).await?;
        let (mut asked, mut jobs) = (Vec::new(), Vec::new());
        let (mut counts, mut done) = (counts_of(&run), run.items_done);
        for item in next {
            let Ok(index_id) = item.item.parse::<IndexId>() else {
                continue;
            };
            if from == ItemState::Waiting && self.is_fresh(&mut tx, index_id).await? {
                items::move_on(&mut tx, &self.job_id, &item.item, &[from], ItemState::Done).await?;
                (counts.indexes_fresh, done) = (counts.indexes_fresh + 1, done + 1);
                continue;
            }
            let key = index_concurrency_key(index_id);
            if self.context.queue.find_key_holder(&mut tx, &key).await?.is_some() {
                items::move_on(&mut tx, &self.job_id, &item.item, &[from], ItemState::Skipped).await?;
                counts.indexes_busy += 1;
                done += u32::from(from == ItemState::Waiting);
                continue;
            }
            let child = IndexSync {
                index_id,
                domain_id: self.job.domain_id.clone(),
                keep_gone: from == ItemState::Waiting,
            };
            jobs.push(child.to_job(self.context.job_limits())?);
            asked.push(item.item);
        }
        syncs::set_counts(&mut tx, &self.job_id, &counts, done).await?;
        // A sync that somebody else has asked for serves as well.
        let enqueued = self.context.queue.enqueue_many(&mut tx, jobs).await?;
        for (item, child) in asked.iter().zip(&enqueued) {
            items::mark_asked(&mut tx, &self.job_id, item, from, &json!(child.id)).await?;
        }
        tx.commit().await?;
        self.context.queue.notify(IndexSync::KIND);
        Ok(())
    }

    async fn is_fresh(&self, db: &mut MySqlConnection, index: IndexId) -> Result<bool, StepError> {
        let fresh = self.context.sync.fresh;
        Ok(!self.job.force && store_polls::find_fresh(db, index, fresh).await?.is_some())
    }

    /// Takes in what has ended.
    async fn collect(&self) -> Result<(), StepError> {
        let mut db = self.context.pool.acquire().await?;
        let asked = items::list(&mut db, &self.job_id, ItemState::Asked, WINDOW).await?;
        drop(db);
        let ids: Vec<_> = asked
            .iter()
            .filter_map(|item| serde_json::from_value(item.detail.clone()?).ok())
            .collect();
        let mut jobs = self.context.queue.find_jobs(&ids).await?;
        let mut ended = Vec::new();
        for item in &asked {
            let id = item.detail.clone().and_then(|id| serde_json::from_value(id).ok());
            let child = match id.and_then(|id: JobId| jobs.remove(&id)) {
                None => Child::Gone,
                Some(Ok(job)) if job.state.is_finished() => Child::Ended(Box::new(job)),
                // It hides none of the others.
                Some(Err(QueueError::Unreadable(job))) if job.state.is_some_and(State::is_finished) => {
                    Child::Unreadable(job)
                }
                Some(Ok(_) | Err(QueueError::Unreadable(_))) => continue,
                Some(Err(error)) => return Err(error.into()),
            };
            ended.push((item, child));
        }
        if ended.is_empty() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        let run = self.run_in(&mut tx).await?;
        let (mut counts, mut done) = (counts_of(&run), run.items_done);
        for (item, child) in ended {
            let (state, error) = outcome(&child);
            match state {
                ItemState::Done if run.phase == SyncPhase::DetachIndexes => counts.indexes_detached += 1,
                ItemState::Done => counts.indexes_synced += 1,
                ItemState::Failed => counts.indexes_failed += 1,
                _ => {}
            }
            // Those that are gone have been counted when they come round again.
            done += u32::from(run.phase != SyncPhase::DetachIndexes);
            items::move_on(&mut tx, &self.job_id, &item.item, &[ItemState::Asked], state).await?;
            if let Some(error) = error {
                let line = json!({"index_id": item.item, "error": error});
                findings::put(&mut tx, &self.job_id, FindingKind::Errors, &item.item, &line).await?;
            }
        }
        syncs::set_counts(&mut tx, &self.job_id, &counts, done).await?;
        Ok(tx.commit().await?)
    }

    /// Nothing is active any more: detaches what is gone, or ends.
    async fn conclude(&self) -> Result<bool, StepError> {
        let mut tx = self.write().await?;
        let run = self.run_in(&mut tx).await?;
        if items::count(&mut tx, &self.job_id, ItemState::Waiting).await? > 0 {
            return Ok(false);
        }
        let gone = items::count(&mut tx, &self.job_id, ItemState::Gone).await?;
        let counts = counts_of(&run);
        if gone > 0 {
            let threshold = DeletionThreshold {
                percent: self.context.sync.deletion_threshold_percent,
            };
            let allowance = threshold.allowance(u64::from(counts.indexes_total));
            if self.job.force || u64::from(gone) <= allowance {
                syncs::go_to(&mut tx, &self.job_id, SyncPhase::DETACH_INDEXES, None).await?;
                tx.commit().await?;
                return Ok(false);
            }
            let error = format!(
                "the stores of {gone} of {} indexes are gone, more than the {allowance} that may be detached at once: \
                 nothing was detached; force=true detaches them",
                counts.indexes_total
            );
            tracing::warn!(error);
            findings::put(
                &mut tx,
                &self.job_id,
                FindingKind::Errors,
                "*",
                &json!({"error": error}),
            )
            .await?;
        }
        let errors = findings::list(&mut tx, &self.job_id, FindingKind::Errors, None, MAX_ERRORS).await?;
        let errors: Vec<Value> = errors.into_iter().map(|finding| text(&finding.detail)).collect();
        let mut output = serde_json::to_value(counts).unwrap_or_default();
        output["errors"] = json!(errors);
        syncs::finish(&mut tx, &self.job_id).await?;
        self.claim.complete(&mut tx, &output).await?;
        tx.commit().await?;
        tracing::info!(?counts, "the domain is in sync");
        Ok(true)
    }

    async fn run_in(&self, db: &mut MySqlConnection) -> Result<syncs::Run, StepError> {
        let run = syncs::find(db, &self.job_id).await?;
        run.ok_or_else(|| StepError::Fail {
            error: "the sync's own row is gone".to_owned(),
        })
    }
}

fn counts_of(run: &syncs::Run) -> Counts {
    serde_json::from_value(run.counts.clone()).unwrap_or_default()
}

/// A child's job that is over.
enum Child {
    Gone,
    Unreadable(Box<UnreadableJob>),
    Ended(Box<Job>),
}

/// What a child came to.
fn outcome(child: &Child) -> (ItemState, Option<String>) {
    let child = match child {
        Child::Gone => return (ItemState::Failed, Some("its job is gone".to_owned())),
        Child::Unreadable(job) => return (ItemState::Failed, Some(job.to_string())),
        Child::Ended(job) => job,
    };
    let output = child.output.as_ref();
    let says = |field| {
        output
            .and_then(|output| output.get(field))
            .and_then(Value::as_bool)
            == Some(true)
    };
    match child.state {
        State::Done if says("gone") && !says("detached") => (ItemState::Gone, None),
        State::Done => (ItemState::Done, None),
        state => {
            let error = child.last_error.clone();
            (
                ItemState::Failed,
                Some(error.unwrap_or_else(|| format!("its job is {state}"))),
            )
        }
    }
}

/// `index …: why`.
fn text(line: &Value) -> Value {
    let error = line["error"].as_str().unwrap_or_default();
    match line["index_id"].as_str() {
        Some(index) => json!(format!("index {index}: {error}")),
        None => json!(error),
    }
}
