//! A build as a persisted state machine: one file per step. `upload` also serves uploads without an index: it needs no more
//! than a [`Scope`]. Beside it stands what undoes builds: `cancel`, `delete_index`, `delete_store`, `deletions`, `abandoned`, `orphans`.
//!
//! Each step reads rows, calls the provider with no transaction open, and writes what came of it in one transaction that
//! is fenced by the claim. What is left to do is computed from rows each time ([`BuildPlan`]), so a step that ran half,
//! or twice, or under a composition that has changed since, needs no special case.
//!
//! Lock order, everywhere: the index's row, then the job's (the fence), then the rest. The API locks the index before it
//! enqueues, so the other order would deadlock with it.

mod abandoned;
mod adopt;
mod attach_files;
mod await_indexing;
mod cancel;
mod delete_index;
mod delete_store;
mod deletions;
mod detach_files;
mod ensure_vector_store;
mod finish;
mod orphans;
mod picture;
mod poll;
mod proof;
mod scope;
mod server_errors;
mod store_settings;
mod unheard_store;
mod upload;
mod upload_files;
mod verify;

use std::ops::Deref;
use std::time::Duration;

use apalis_mariadb::Claim;
use chrono::{DateTime, Utc};
use rag_connections::Learned;
use rag_db::indexes::Index;
use rag_db::{attachments, builds, composition, indexes, intents, uploads};
use rag_jobs::IndexBuild;
use sqlx::{MySql, Transaction};

use crate::context::Context;
use crate::halt::{Halt, OPERATOR_PAUSE};
use crate::observe::Observer;

use picture::Picture;

pub(crate) use abandoned::{end_all as end_uploads, is_wanted as is_upload_wanted};
pub(crate) use cancel::stop_indexing;
pub(crate) use delete_index::DeletedIndex;
pub(crate) use delete_store::run as delete_store;
pub(crate) use deletions::{Site, clean_up_everywhere, delete_owned};
pub(crate) use detach_files::detach;
pub(crate) use ensure_vector_store::{TAG_INDEX, TAG_INTENT};
pub(crate) use orphans::reconcile;
pub(crate) use scope::Scope;
pub(crate) use upload::{Uploaded, ensure as ensure_upload};

/// How long a call may go on when its build is to stop.
const LAST_CALL: Duration = Duration::from_secs(2);

/// Where a build stands; the text is what `rag_index_builds.step` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    EnsureVectorStore,
    UploadFiles,
    AttachFiles,
    AwaitIndexing,
    DetachFiles,
    Verify,
    Finish,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::EnsureVectorStore,
        Self::UploadFiles,
        Self::AttachFiles,
        Self::AwaitIndexing,
        Self::DetachFiles,
        Self::Verify,
        Self::Finish,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::EnsureVectorStore => "ensure_vector_store",
            Self::UploadFiles => "upload_files",
            Self::AttachFiles => "attach_files",
            Self::AwaitIndexing => "await_indexing",
            Self::DetachFiles => "detach_files",
            Self::Verify => "verify",
            Self::Finish => "finish",
        }
    }

    /// Whether the step sends what an exhausted account would not take. The others go on.
    const fn brings_something(self) -> bool {
        matches!(
            self,
            Self::EnsureVectorStore | Self::UploadFiles | Self::AttachFiles
        )
    }

    /// An unknown step was written by another version: every step is safe to repeat, so begin with the first.
    fn parse(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|step| step.as_str() == text)
            .unwrap_or(Self::EnsureVectorStore)
    }
}

/// One claim's work on one build.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    scope: Scope<'a>,
    job: &'a IndexBuild,
    index: Index,
    job_id: String,
    started_at: DateTime<Utc>,
    step: Step,
    learned: Learned,
    /// What the verification of this claim could not tell.
    unverified: Vec<String>,
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
    ) -> Result<Option<Self>, Halt> {
        let job_id = claim.job_id().to_string();
        let mut db = context.pool.acquire().await?;
        let found = indexes::find(&mut db, &job.domain_id, job.index_id).await?;
        let index = found.ok_or_else(|| Halt::Fail {
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
                }))
            }
            _ => Ok(None),
        }
    }

    /// Goes on until the build has ended, or has to pause.
    pub(crate) async fn run(&mut self) -> Result<(), Halt> {
        loop {
            self.check_running()?;
            tracing::debug!(step = self.step.as_str(), "step begins");
            let cancellation = self.claim.cancellation().clone();
            let next = tokio::select! {
                biased;
                next = self.run_step() => next?,
                // A step stops by itself between two calls. A call that hangs is cut off: whatever it did is found later.
                () = async { cancellation.cancelled().await; tokio::time::sleep(LAST_CALL).await } => {
                    return Err(Halt::Stopped);
                }
            };
            let Some(next) = next else { return Ok(()) };
            let mut tx = self.write().await?;
            builds::set_step(&mut tx, &self.job_id, next.as_str()).await?;
            tx.commit().await?;
            self.step = next;
        }
    }

    /// `None`: the build has ended.
    async fn run_step(&mut self) -> Result<Option<Step>, Halt> {
        Ok(Some(match self.step {
            Step::EnsureVectorStore => ensure_vector_store::run(self).await?,
            Step::UploadFiles => match upload_files::run(self).await {
                Err(halt @ (Halt::RateLimited { .. } | Halt::Storage { .. })) => {
                    self.go_on_without_the_rest().await?;
                    return Err(halt);
                }
                next => next?,
            },
            Step::AttachFiles => attach_files::run(self).await?,
            Step::AwaitIndexing => await_indexing::run(self).await?,
            Step::DetachFiles => detach_files::run(self).await?,
            Step::Verify => verify::run(self).await?,
            Step::Finish => return finish::run(self).await,
        }))
    }

    /// Uploads have to wait. What has gone up already is attached meanwhile, if the provider takes that; if not, the uploads'
    /// own reason stands.
    async fn go_on_without_the_rest(&mut self) -> Result<(), Halt> {
        match attach_files::run(self).await {
            Ok(_) | Err(Halt::Snooze { .. } | Halt::RateLimited { .. } | Halt::ProviderWait { .. }) => Ok(()),
            Err(halt @ (Halt::Stopped | Halt::Database { .. })) => Err(halt),
            Err(halt) => {
                tracing::info!(%halt, "what has gone up could not be attached yet");
                Ok(())
            }
        }
    }

    fn observer(&self) -> Observer<'_> {
        Observer {
            context: self.context,
            claim: self.claim,
            provider: self.provider.as_ref(),
            learned: &self.learned,
        }
    }

    /// The build is cancelled: the provider is told, unless the whole store is about to go.
    pub(crate) async fn stop_indexing(&self) -> Result<(), Halt> {
        let mut db = self.context.pool.acquire().await?;
        let index = indexes::find(&mut db, &self.job.domain_id, self.job.index_id).await?;
        drop(db);
        if let Some(index) = index {
            stop_indexing(&self.scope, &index).await?;
        }
        Ok(())
    }

    /// A transaction that may write on the job's behalf, the index's row included.
    async fn write_index(&self) -> Result<(Transaction<'static, MySql>, Index), Halt> {
        let mut tx = self.context.pool.begin().await?;
        let index = indexes::lock(&mut tx, &self.job.domain_id, self.job.index_id).await?;
        self.claim.fence(&mut tx).await?;
        Ok((tx, index))
    }

    /// The store; every step after the first has one.
    fn store_id(&self) -> Result<&str, Halt> {
        self.index.external_id.as_deref().ok_or_else(|| Halt::Retry {
            error: "the index lost its store while it was being built".to_owned(),
            after: None,
        })
    }

    async fn picture(&self) -> Result<Picture, Halt> {
        let mut db = self.context.pool.acquire().await?;
        self.picture_in(&mut db).await
    }

    async fn picture_in(&self, db: &mut sqlx::MySqlConnection) -> Result<Picture, Halt> {
        let members = composition::list(db, &self.job.domain_id, self.job.index_id).await?;
        let attachments = attachments::list(db, self.job.index_id).await?;
        Ok(Picture::new(members, attachments))
    }

    /// Writes how far the build has come, as the rows tell.
    async fn report(&self, picture: &Picture) -> Result<(), Halt> {
        let mut tx = self.write().await?;
        builds::set_progress(&mut tx, &self.job_id, &picture.progress()).await?;
        Ok(tx.commit().await?)
    }
}

/// The account is exhausted, and the fleet's next try is not due: what brings something there waits, and sends nothing.
pub(crate) async fn wait_if_exhausted(
    db: &mut sqlx::MySqlConnection,
    provider_type: &str,
) -> Result<(), Halt> {
    match rag_connections::find_exhausted(db, provider_type).await? {
        None => Ok(()),
        Some((state, left)) => Err(Halt::snooze(
            left.min(OPERATOR_PAUSE),
            format!("the account at provider `{provider_type}` is {state}"),
        )),
    }
}

/// What happens once per build, in the transaction that makes its row.
async fn begin(
    tx: &mut Transaction<'static, MySql>,
    job: &IndexBuild,
    index: &mut Index,
) -> Result<(), Halt> {
    indexes::mark_in_progress(tx, index.id).await?;
    uploads::reset_for_build(tx, &index.provider_type, index.id, job.force_upload).await?;
    attachments::forget_given_up(tx, index.id).await?;
    attachments::retry_failed(tx, index.id).await?;
    if job.recreate
        && let Some(store) = index.external_id.take()
    {
        indexes::clear_external_id(tx, index.id, &store).await?;
        intents::retire_store(tx, &index.provider_type, index.id, &store).await?;
        for file in attachments::forget_store(tx, &store).await? {
            intents::retire_file(tx, &index.provider_type, &file).await?;
        }
        tracing::info!(store, "the present store is given up on request");
    }
    tracing::info!("the build begins");
    Ok(())
}
