//! Reads jobs from their rows, many at once, with what their builds and syncs tell of their progress.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apalis_mariadb::{Job, JobId, JobKind as _, Queue, QueueError};
use moka::sync::Cache;
use rag_db::builds::{self, Build};
use rag_db::syncs::{self, Run};
use rag_domain::DomainId;
use rag_jobs::{DomainSync, ProviderSync};
use sqlx::MySqlPool;

use super::view::JobOut;
use crate::batch_loader::{BatchLoader, Limits, Load, Loaded};
use crate::http::problem::Problem;

/// A batch counts the jobs ahead for each of its waiting jobs, so it is small.
const LIMITS: Limits = Limits {
    max_concurrent: 2,
    max_batch: 8,
};

/// How long an unchanged job is served from the cache; its queue position may change meanwhile.
const TTL: Duration = Duration::from_secs(1);

const MAX_CACHED: u64 = 10_000;

type Key = (DomainId, JobId);

/// Reads jobs. Callers that ask for the same time share one read of the database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct JobReader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: MySqlPool,
    queue: Queue,
    loader: BatchLoader<Key, JobOut>,
    /// Each job with the revision at which its caller saw it.
    cache: Cache<Key, (String, JobOut)>,
}

impl JobReader {
    pub(crate) fn new(db: MySqlPool, queue: Queue) -> Self {
        Self(Arc::new(Inner {
            db,
            queue,
            loader: BatchLoader::new(LIMITS),
            cache: Cache::builder()
                .time_to_live(TTL)
                .max_capacity(MAX_CACHED)
                .build(),
        }))
    }

    /// The domain's job with this id.
    pub(super) async fn find(&self, key: Key) -> Result<Option<JobOut>, Problem> {
        self.0.loader.get(key, self).await
    }

    /// As [`find`](Self::find), for a caller that has just seen the job at `revision`: the cache may answer.
    pub(super) async fn find_as_of(&self, key: Key, revision: String) -> Result<Option<JobOut>, Problem> {
        if let Some((known, job)) = self.0.cache.get(&key)
            && known == revision
        {
            return Ok(Some(job));
        }
        let job = self.find(key.clone()).await?;
        if let Some(job) = &job {
            // The job is no older than `revision`. If it is newer, the next caller comes with another revision.
            self.0.cache.insert(key, (revision, job.clone()));
        }
        Ok(job)
    }

    /// The job with its progress and its queue position.
    pub(super) async fn with_progress(&self, job: Job) -> Result<JobOut, Problem> {
        let ahead = self.0.queue.count_ahead(&job).await?;
        let mut views = self.views(vec![job]).await?;
        let mut view = views.pop().ok_or_else(|| Problem::not_found("job"))?;
        view.set_ahead(ahead);
        Ok(view)
    }

    /// The jobs with these ids, of whatever domain, without queue positions. The caller checks who may see them.
    pub(super) async fn find_many(
        &self,
        ids: &[JobId],
    ) -> Result<HashMap<JobId, Result<JobOut, Problem>>, Problem> {
        let (mut jobs, mut found) = (Vec::new(), HashMap::new());
        for (id, job) in self.0.queue.find_jobs(ids).await? {
            match job {
                Ok(job) => jobs.push(job),
                Err(QueueError::Unreadable(job)) => {
                    found.insert(id, Ok(JobOut::unreadable(*job)));
                }
                Err(error) => {
                    found.insert(id, Err(error.into()));
                }
            }
        }
        let views = self.views(jobs).await?;
        found.extend(views.into_iter().map(|view| (view.id(), Ok(view))));
        Ok(found)
    }

    /// In the same order, with the progress of those that have any.
    async fn views(&self, jobs: Vec<Job>) -> Result<Vec<JobOut>, Problem> {
        let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
        let syncing: Vec<String> = jobs
            .iter()
            .filter(|job| [DomainSync::KIND, ProviderSync::KIND].contains(&job.kind.as_str()))
            .map(|job| job.id.to_string())
            .collect();
        let mut db = self.0.db.acquire().await?;
        let builds = builds::find_many(&mut db, &ids).await?;
        let mut builds: HashMap<String, Build> = builds
            .into_iter()
            .map(|build| (build.job_id.clone(), build))
            .collect();
        let syncs = syncs::find_many(&mut db, &syncing).await?;
        let mut syncs: HashMap<String, Run> =
            syncs.into_iter().map(|run| (run.job_id.clone(), run)).collect();
        let view = |(job, id)| JobOut::new(job, builds.remove(&id)).with_sync(syncs.remove(&id));
        Ok(jobs.into_iter().zip(ids).map(view).collect())
    }
}

impl Load<Key, JobOut> for JobReader {
    async fn load(&self, keys: Vec<Key>) -> Result<Loaded<Key, JobOut>, Problem> {
        let queue = &self.0.queue;
        let ids: Vec<JobId> = keys.iter().map(|(_, id)| *id).collect();
        let mut jobs = queue.find_jobs(&ids).await?;
        let (mut found, mut own) = (Loaded::new(), Vec::new());
        for key in keys {
            match jobs.remove(&key.1) {
                Some(Ok(job)) if job.tenant.as_deref() == Some(key.0.as_str()) => own.push((key, job)),
                // The job is of another domain: this caller gets nothing, and its owner may be among the next.
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
            ahead.push(queue.count_ahead(job).await?);
        }
        let (keys, jobs): (Vec<_>, Vec<_>) = own.into_iter().unzip();
        for ((key, mut view), ahead) in keys.into_iter().zip(self.views(jobs).await?).zip(ahead) {
            view.set_ahead(ahead);
            found.insert(key, Ok(view));
        }
        Ok(found)
    }
}
