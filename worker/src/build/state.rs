//! One claim's work on one build: what it holds, how it begins or resumes, and the transactions that it may write in.
//!
//! Lock order, everywhere: the index's row, then the job's (the fence), then the rest. The API locks the index before it
//! enqueues, so the other order would deadlock with it.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use apalis_mariadb::Claim;
use chrono::{DateTime, Utc};
use rag_connections::Learned;
use rag_db::attachments::{self, Counts, NewAttachment};
use rag_db::indexes::Index;
use rag_db::{builds, indexes, intents, uploads};
use rag_jobs::IndexBuild;
use sqlx::{MySql, Transaction};

use super::snapshot::BuildSnapshot;
use super::step::Step;
use crate::context::Context;
use crate::lease::{Scope, wait_if_exhausted};
use crate::observe::Observer;
use crate::step_error::StepError;

/// How often a build repairs its store before it says that it can't be repaired.
pub(super) const MAX_REPAIR_ROUNDS: u32 = 3;

/// One claim's work on one build.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) job: &'a IndexBuild,
    pub(super) index: Index,
    pub(super) job_id: String,
    pub(super) started_at: DateTime<Utc>,
    pub(super) step: Step,
    pub(super) learned: Learned,
    /// What the verification of this claim could not tell.
    pub(super) unverified: Vec<String>,
    /// There may be attachments that do not belong in the store.
    pub(super) leaving: bool,
    pub(super) reports: Reports,
}

impl<'a> Deref for Build<'a> {
    type Target = Scope<'a>;

    fn deref(&self) -> &Scope<'a> {
        &self.scope
    }
}

impl<'a> Build<'a> {
    /// Begins the build, or takes it up where the last claim left it. `None`: it has ended already.
    pub(crate) async fn resume(
        context: &'a Context,
        claim: &'a Claim,
        job: &'a IndexBuild,
    ) -> Result<Option<Self>, StepError> {
        let job_id = claim.job_id().to_string();
        let mut db = context.pool.acquire().await?;
        let found = indexes::find(&mut db, &job.domain_id, job.index_id).await?;
        let index = found.ok_or_else(|| StepError::Fail {
            error: "the index no longer exists".to_owned(),
        })?;
        // Before anything is written: a build whose provider can't be used has not begun.
        let connections = &context.connections;
        let (provider, learned) = connections.open_learned(&mut db, &index.provider_type).await?;
        let begun = builds::find(&mut db, &job_id).await?;
        if begun.is_none_or(|build| Step::parse(&build.step).brings_something()) {
            wait_if_exhausted(&mut db, &index.provider_type).await?;
        }
        drop(db);

        let mut tx = context.pool.begin().await?;
        let mut index = indexes::lock(&mut tx, &job.domain_id, job.index_id).await?;
        claim.fence(&mut tx).await?;
        let first = Step::EnsureVectorStore;
        if builds::begin(&mut tx, &job_id, index.id, &index.domain_id, first.as_str()).await? {
            begin(&mut tx, job, &mut index).await?;
        } else if index.last_error.take().is_some() {
            // What made the claim before this one pause is being tried again.
            indexes::note_build_error(&mut tx, index.id, None).await?;
        }
        let build = builds::find(&mut tx, &job_id).await?;
        tx.commit().await?;
        match build {
            Some(build) if build.finished_at.is_none() => {
                let step = Step::parse(&build.step);
                let scope = Scope::new(context, claim, provider, &index.provider_type, &job.domain_id);
                Ok(Some(Self {
                    scope,
                    job,
                    index,
                    job_id,
                    started_at: build.started_at,
                    step,
                    learned,
                    unverified: Vec::new(),
                    leaving: true,
                    reports: Reports::default(),
                }))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn observer(&self) -> Observer<'_> {
        Observer {
            context: self.context,
            claim: self.claim,
            provider: self.provider.as_ref(),
            learned: &self.learned,
        }
    }

    /// A transaction that may write on the job's behalf, the index's row included.
    pub(super) async fn write_index(&self) -> Result<(Transaction<'static, MySql>, Index), StepError> {
        let mut tx = self.context.pool.begin().await?;
        let index = indexes::lock(&mut tx, &self.job.domain_id, self.job.index_id).await?;
        self.claim.fence(&mut tx).await?;
        Ok((tx, index))
    }

    /// The store; every step after the first has one.
    pub(super) fn store_id(&self) -> Result<&str, StepError> {
        self.index.external_id.as_deref().ok_or_else(|| StepError::Retry {
            error: "the index lost its store while it was being built".to_owned(),
            after: None,
        })
    }

    /// The files of a snapshot that have their copies and are to be attached.
    pub(super) fn new_attachments<'s>(
        &'s self,
        snapshot: &'s BuildSnapshot,
    ) -> Result<impl Iterator<Item = NewAttachment<'s>>, StepError> {
        let store = self.store_id()?;
        Ok(snapshot
            .plan
            .attach
            .iter()
            .filter_map(|id| Some((*id, snapshot.current_copy(*id)?, snapshot.member(*id)?)))
            .map(move |(id, external_file_id, member)| NewAttachment {
                index_id: self.index.id,
                external_store_id: store,
                local_file_id: id,
                external_file_id,
                content_sha256: &member.desired.content_sha256,
                size_bytes: member.desired.size_bytes,
                chunking_strategy: member.desired.strategy,
            }))
    }

    /// How many attachments are in each state.
    pub(super) async fn count_attachments(&self) -> Result<Counts, StepError> {
        let mut db = self.context.pool.acquire().await?;
        Ok(attachments::count(&mut db, self.index.id).await?)
    }

    /// Something may have had an effect on the store that no row shows.
    pub(super) async fn doubt_store(&self, tx: &mut sqlx::MySqlConnection) -> Result<(), StepError> {
        Ok(builds::set_needs_listing(tx, &self.job_id).await?)
    }

    /// Writes how far the build has come, as the rows tell.
    pub(super) async fn report(&self) -> Result<(), StepError> {
        let mut tx = self.write().await?;
        self.count_progress(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// As [`report`](Self::report), if a report is due.
    pub(super) async fn report_if_due(&self) -> Result<(), StepError> {
        if self.reports.is_due() {
            self.report().await?;
        }
        Ok(())
    }

    /// As [`report`](Self::report), in a transaction that is fenced already, and only if a report is due.
    pub(super) async fn report_in(&self, tx: &mut sqlx::MySqlConnection) -> Result<(), StepError> {
        if self.reports.is_due() {
            self.count_progress(tx).await?;
        }
        Ok(())
    }

    async fn count_progress(&self, tx: &mut sqlx::MySqlConnection) -> Result<(), StepError> {
        self.reports.begin();
        let progress = builds::count_progress(tx, self.index.id).await?;
        builds::set_progress(tx, &self.job_id, &progress).await?;
        self.reports.end();
        Ok(())
    }
}

/// When progress is counted. It is counted from all rows of the index, so not after each of ten thousand files, and the seldomer the
/// longer it takes: a twentieth of the time goes into it at most.
#[derive(Debug, Default)]
pub(super) struct Reports(Mutex<Option<Times>>);

#[derive(Debug, Clone, Copy)]
struct Times {
    began: Instant,
    next: Instant,
}

const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_SHARE: u32 = 20;

impl Reports {
    fn times(&self) -> MutexGuard<'_, Option<Times>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self) -> bool {
        self.times().is_none_or(|times| Instant::now() >= times.next)
    }

    fn begin(&self) {
        let now = Instant::now();
        *self.times() = Some(Times {
            began: now,
            next: now + REPORT_INTERVAL,
        });
    }

    fn end(&self) {
        if let Some(times) = self.times().as_mut() {
            times.next = Instant::now() + REPORT_INTERVAL.max(times.began.elapsed() * REPORT_SHARE);
        }
    }
}

/// What happens once per build, in the transaction that makes its row.
async fn begin(
    tx: &mut Transaction<'static, MySql>,
    job: &IndexBuild,
    index: &mut Index,
) -> Result<(), StepError> {
    indexes::mark_in_progress(tx, index.id).await?;
    uploads::reset_for_build(tx, &index.provider_type, index.id, job.force_upload).await?;
    attachments::forget_given_up(tx, index.id).await?;
    attachments::retry_failed(tx, index.id).await?;
    if job.recreate
        && let Some(store) = index.external_id.take()
    {
        indexes::clear_external_id(tx, index.id, &store).await?;
        intents::retire_store(tx, &index.provider_type, Some(index.id), &store).await?;
        for file in attachments::forget_store(tx, &store).await? {
            intents::retire_file(tx, &index.provider_type, &file).await?;
        }
        tracing::info!(store, "the present store is given up on request");
    }
    tracing::info!("the build begins");
    Ok(())
}
