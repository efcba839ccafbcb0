//! What handlers share.

use std::ops::Deref;
use std::sync::Arc;

use apalis_mariadb::Queue;
use rag_connections::Connections;
use rag_files::FileStore;
use rag_jobs::JobLimits;
use rag_settings::Settings;
use rag_telemetry::Metrics;
use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool, Transaction};

use crate::auth::KeyCache;
use crate::events::Events;
use crate::limits::{Gates, Rates};
use crate::problem::Problem;
use crate::routes::JobLooks;
use crate::standings::Standings;

/// The application's state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    events: Events,
    rates: Rates,
    gates: Gates,
    standings: Standings,
    jobs: JobLooks,
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
        let (rates, gates) = (Rates::new(&parts.settings.api), Gates::new(&parts.settings.api));
        Self(Arc::new(Inner {
            parts,
            events: Events::default(),
            rates,
            gates,
            standings: Standings::default(),
            jobs: JobLooks::default(),
        }))
    }

    pub(crate) fn job_limits(&self) -> JobLimits {
        JobLimits {
            build_max_attempts: self.settings.worker.build_max_attempts,
        }
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.0.rates
    }

    pub(crate) fn standings(&self) -> &Standings {
        &self.0.standings
    }

    pub(crate) fn jobs(&self) -> &JobLooks {
        &self.0.jobs
    }

    pub(crate) fn gates(&self) -> &Gates {
        &self.0.gates
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    pub(crate) async fn connection(&self) -> Result<PoolConnection<MySql>, Problem> {
        Ok(self.db.acquire().await?)
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
