//! Jobs for answers: many at once, and in common for all who ask at the same time.

use std::collections::HashMap;
use std::time::Duration;

use apalis_mariadb::{Job, JobId, JobKind as _, QueueError};
use moka::sync::Cache;
use rag_db::builds::{self, Build};
use rag_db::syncs::{self, Run};
use rag_domain::DomainId;
use rag_jobs::{DomainSync, ProviderSync};

use super::JobOut;
use crate::problem::Problem;
use crate::shared_looks::{Extent, Found, Look, SharedLooks};
use crate::state::App;

/// How many jobs are ahead of one that waits is counted for each of them.
const EXTENT: Extent = Extent {
    at_once: 2,
    most_subjects: 8,
};

/// How long a job that did not change may be kept; its place in line may change.
const FRESH: Duration = Duration::from_secs(1);

/// Of jobs that are kept.
const MOST: u64 = 10_000;

type Key = (DomainId, JobId);

/// Looks at jobs, each as its domain may see it.
#[derive(Debug)]
pub(crate) struct JobLooks {
    looks: SharedLooks<Key, JobOut>,
    /// By what the caller took for their revision.
    kept: Cache<Key, (String, JobOut)>,
}

impl Default for JobLooks {
    fn default() -> Self {
        Self {
            looks: SharedLooks::new(EXTENT),
            kept: Cache::builder().time_to_live(FRESH).max_capacity(MOST).build(),
        }
    }
}

impl JobLooks {
    async fn find(&self, app: &App, key: Key) -> Result<Option<JobOut>, Problem> {
        self.looks.get(key, QueueLook(app.clone())).await
    }

    /// For who has just seen that the job is at this revision.
    pub(in crate::routes) async fn find_as_of(
        &self,
        app: &App,
        key: Key,
        revision: String,
    ) -> Result<Option<JobOut>, Problem> {
        if let Some((known, job)) = self.kept.get(&key)
            && known == revision
        {
            return Ok(Some(job));
        }
        let job = self.find(app, key.clone()).await?;
        if let Some(job) = &job {
            // It is no older than its revision; if it is newer, the next caller has another one.
            self.kept.insert(key, (revision, job.clone()));
        }
        Ok(job)
    }
}

/// The domain's job with this id.
pub(in crate::routes) async fn read(app: &App, domain: &DomainId, id: JobId) -> Result<JobOut, Problem> {
    let job = app.jobs().find(app, (domain.clone(), id)).await?;
    job.ok_or_else(|| Problem::not_found("job"))
}

/// The job with what its own rows tell.
pub(in crate::routes) async fn with_progress(app: &App, job: Job) -> Result<JobOut, Problem> {
    let ahead = app.queue.count_ahead(&job).await?;
    let mut views = views(app, vec![job]).await?;
    let mut view = views.pop().ok_or_else(|| Problem::not_found("job"))?;
    view.set_ahead(ahead);
    Ok(view)
}

/// Of whatever domain, those that there are, without their places in line: for callers who know that they may.
pub(crate) async fn read_jobs(
    app: &App,
    ids: &[JobId],
) -> Result<HashMap<JobId, Result<JobOut, Problem>>, Problem> {
    let (mut jobs, mut found) = (Vec::new(), HashMap::new());
    for (id, job) in app.queue.find_jobs(ids).await? {
        match job {
            Ok(job) => jobs.push(job),
            Err(error) => {
                found.insert(id, unreadable(error));
            }
        }
    }
    let views = views(app, jobs).await?;
    found.extend(views.into_iter().map(|view| (view.id(), Ok(view))));
    Ok(found)
}

/// As the queue has it.
pub(super) async fn queue_job(app: &App, domain: &DomainId, id: JobId) -> Result<Option<Job>, Problem> {
    let job = app.queue.find_job(id).await?;
    Ok(job.filter(|job| job.tenant.as_deref() == Some(domain.as_str())))
}

/// A job whose row cannot be read whole is shown as far as it can be.
fn unreadable(error: QueueError) -> Result<JobOut, Problem> {
    match error {
        QueueError::Unreadable(job) => Ok(JobOut::unreadable(*job)),
        error => Err(error.into()),
    }
}

struct QueueLook(App);

impl Look<Key, JobOut> for QueueLook {
    async fn look(&mut self, keys: Vec<Key>) -> Result<Found<Key, JobOut>, Problem> {
        let Self(app) = self;
        let ids: Vec<JobId> = keys.iter().map(|(_, id)| *id).collect();
        let mut jobs = app.queue.find_jobs(&ids).await?;
        let (mut found, mut own) = (Found::new(), Vec::new());
        for key in keys {
            match jobs.remove(&key.1) {
                Some(Ok(job)) if job.tenant.as_deref() == Some(key.0.as_str()) => own.push((key, job)),
                // Of another domain: who asked gets nothing, and the owner may be among the next.
                Some(Ok(job)) => {
                    jobs.insert(key.1, Ok(job));
                }
                Some(Err(QueueError::Unreadable(job))) => {
                    if job.tenant.as_deref() == Some(key.0.as_str()) {
                        found.insert(key, Ok(JobOut::unreadable(*job)));
                    } else {
                        jobs.insert(key.1, Err(QueueError::Unreadable(job)));
                    }
                }
                Some(Err(error)) => {
                    found.insert(key, Err(error.into()));
                }
                None => {}
            }
        }
        let mut ahead = Vec::with_capacity(own.len());
        for (_, job) in &own {
            ahead.push(app.queue.count_ahead(job).await?);
        }
        let (keys, jobs): (Vec<_>, Vec<_>) = own.into_iter().unzip();
        for ((key, mut view), ahead) in keys.into_iter().zip(views(app, jobs).await?).zip(ahead) {
            view.set_ahead(ahead);
            found.insert(key, Ok(view));
        }
        Ok(found)
    }
}

/// In the same order, with the progress of those that have any.
async fn views(app: &App, jobs: Vec<Job>) -> Result<Vec<JobOut>, Problem> {
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    let syncing: Vec<String> = jobs
        .iter()
        .filter(|job| [DomainSync::KIND, ProviderSync::KIND].contains(&job.kind.as_str()))
        .map(|job| job.id.to_string())
        .collect();
    let mut db = app.connection().await?;
    let builds = builds::find_many(&mut db, &ids).await?;
    let mut builds: HashMap<String, Build> = builds
        .into_iter()
        .map(|build| (build.job_id.clone(), build))
        .collect();
    let syncs = syncs::find_many(&mut db, &syncing).await?;
    let mut syncs: HashMap<String, Run> = syncs.into_iter().map(|run| (run.job_id.clone(), run)).collect();
    let view = |(job, id)| JobOut::new(job, builds.remove(&id)).with_sync(syncs.remove(&id));
    Ok(jobs.into_iter().zip(ids).map(view).collect())
}
