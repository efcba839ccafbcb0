//! What handlers share.

use std::ops::Deref;
use std::sync::Arc;

use apalis_mariadb::{JobId, Queue};
use axum::extract::FromRef;
use rag_connections::Connections;
use rag_files::FileStore;
use rag_jobs::{JobLimits, JobSpec};
use rag_settings::Settings;
use rag_telemetry::Metrics;
use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool, Transaction};

use crate::http::auth::{Authenticator, KeyCache};
use crate::http::edge::RequestId;
use crate::http::limits::{Gates, Rates};
use crate::http::problem::Problem;
use crate::jobs::Jobs;
use crate::status_cache::StatusCache;

/// The application's state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    authenticator: Authenticator,
    jobs: Jobs,
    rates: Rates,
    gates: Gates,
    status_cache: StatusCache,
}

/// What an [`App`] is made of.
#[derive(Debug)]
pub struct Parts {
    pub db: MySqlPool,
    pub files: FileStore,
    pub queue: Queue,
    pub connections: Connections,
    pub settings: Settings,
    pub metrics: Metrics,
    pub keys: KeyCache,
}

impl App {
    pub fn new(parts: Parts) -> Self {
        let api = &parts.settings.api;
        let authenticator = Authenticator::new(parts.db.clone(), parts.keys.clone(), api.auth);
        let jobs = Jobs::new(
            parts.db.clone(),
            parts.queue.clone(),
            authenticator.clone(),
            &parts.settings,
        );
        Self(Arc::new(Inner {
            authenticator,
            jobs,
            rates: Rates::new(api),
            gates: Gates::new(api),
            status_cache: StatusCache::new(parts.db.clone()),
            parts,
        }))
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }

    pub(crate) fn job_limits(&self) -> JobLimits {
        self.jobs().limits()
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.0.rates
    }

    pub(crate) fn status_cache(&self) -> &StatusCache {
        &self.0.status_cache
    }

    pub(crate) fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    pub(crate) fn gates(&self) -> &Gates {
        &self.0.gates
    }

    pub(crate) async fn connection(&self) -> Result<PoolConnection<MySql>, Problem> {
        Ok(self.db.acquire().await?)
    }

    /// Commits `tx` with this job in it, or with the one that is active already under the same unique key.
    pub(crate) async fn enqueue<J: JobSpec>(
        &self,
        mut tx: Transaction<'_, MySql>,
        job: &J,
        request_id: Option<&RequestId>,
    ) -> Result<JobId, Problem> {
        let mut job = job.to_job(self.job_limits())?;
        if let Some(request_id) = request_id {
            job = job.trace_context(request_id.as_str());
        }
        let enqueued = self.queue.enqueue(&mut tx, job).await?;
        tx.commit().await?;
        self.queue.notify(J::KIND);
        Ok(enqueued.id)
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<'static, MySql>, Problem> {
        Ok(self.db.begin().await?)
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl FromRef<App> for Jobs {
    fn from_ref(app: &App) -> Self {
        app.jobs().clone()
    }
}
