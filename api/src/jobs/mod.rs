//! `/jobs`: work in the background, as its domain may see it; and what other resources need of jobs.
//!
//! [`Jobs`] reads jobs, waits for them and follows them. It knows no resource, so every resource may use it.

mod control;
mod events;
mod follow;
mod list;
mod reader;
mod row_lock;
mod view;
mod wait;

use std::collections::HashMap;
use std::sync::Arc;

use apalis_mariadb::{Job, JobId, Queue};
use axum::extract::FromRef;
use rag_domain::DomainId;
use rag_jobs::JobLimits;
use rag_settings::{ApiSettings, Settings};
use sqlx::MySqlPool;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::events::Events;
use self::reader::JobReader;
pub(crate) use self::row_lock::until_unlocked;
pub(crate) use self::view::JobOut;
use crate::http::auth::Authenticator;
use crate::http::problem::Problem;

pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S>
where
    Jobs: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list::list_jobs))
        .routes(routes!(list::get_job))
        .routes(routes!(follow::follow_job))
        .routes(routes!(control::cancel_job))
        .routes(routes!(control::retry_job))
}

/// Reads jobs, waits for them and follows them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: MySqlPool,
    queue: Queue,
    reader: JobReader,
    events: Events,
    authenticator: Authenticator,
    settings: ApiSettings,
    limits: JobLimits,
}

impl Jobs {
    pub(crate) fn new(
        db: MySqlPool,
        queue: Queue,
        authenticator: Authenticator,
        settings: &Settings,
    ) -> Self {
        let reader = JobReader::new(db.clone(), queue.clone());
        Self(Arc::new(Inner {
            db,
            queue,
            events: Events::new(reader.clone()),
            reader,
            authenticator,
            settings: settings.api.clone(),
            limits: JobLimits {
                build_max_attempts: settings.worker.build_max_attempts,
            },
        }))
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    /// The domain's job with this id.
    pub(crate) async fn get(&self, domain: &DomainId, id: JobId) -> Result<JobOut, Problem> {
        let job = self.0.reader.find((domain.clone(), id)).await?;
        job.ok_or_else(|| Problem::not_found("job"))
    }

    /// The domain's job, for a caller that has just seen it at `revision`.
    pub(crate) async fn find_as_of(
        &self,
        key: (DomainId, JobId),
        revision: String,
    ) -> Result<Option<JobOut>, Problem> {
        self.0.reader.find_as_of(key, revision).await
    }

    /// The jobs with these ids, of whatever domain, without queue positions. The caller checks who may see them.
    pub(crate) async fn find_many(
        &self,
        ids: &[JobId],
    ) -> Result<HashMap<JobId, Result<JobOut, Problem>>, Problem> {
        self.0.reader.find_many(ids).await
    }

    /// The job with its progress and its queue position.
    pub(crate) async fn with_progress(&self, job: Job) -> Result<JobOut, Problem> {
        self.0.reader.with_progress(job).await
    }

    /// What the settings say about new jobs.
    pub(crate) fn limits(&self) -> JobLimits {
        self.0.limits
    }

    /// The row of the domain's job.
    async fn get_row(&self, domain: &DomainId, id: JobId) -> Result<Job, Problem> {
        let job = self.0.queue.find_job(id).await?;
        job.filter(|job| job.tenant.as_deref() == Some(domain.as_str()))
            .ok_or_else(|| Problem::not_found("job"))
    }

    fn db(&self) -> &MySqlPool {
        &self.0.db
    }

    fn queue(&self) -> &Queue {
        &self.0.queue
    }

    fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }

    fn settings(&self) -> &ApiSettings {
        &self.0.settings
    }
}
