//! What every job needs, made once per process.

use std::sync::Arc;
use std::time::Duration;

use apalis_mariadb::Queue;
use rag_connections::Connections;
use rag_domain::DomainId;
use rag_files::FileStore;
use rag_jobs::JobLimits;
use rag_settings::{FilesSettings, SyncSettings, WorkerSettings};
use sqlx::MySqlPool;
use tokio::sync::Semaphore;

/// Shared by all jobs of a process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub pool: MySqlPool,
    pub queue: Queue,
    pub files: FileStore,
    pub connections: Arc<Connections>,
    pub settings: Arc<WorkerSettings>,
    pub files_settings: Arc<FilesSettings>,
    /// How long finished jobs are kept, and what is known of them.
    pub retention: Duration,
    pub sync: Arc<SyncSettings>,
    /// Of indexes that a provider sync makes.
    pub default_domain: DomainId,
    /// One permit for each build that this process may run at once; builds that run hold one.
    pub build_slots: Arc<Semaphore>,
}

impl Context {
    /// Whether another build could begin at once here, so that one that only waits is in nobody's way.
    pub fn has_free_build_slot(&self) -> bool {
        self.build_slots.available_permits() > 0
    }

    pub fn job_limits(&self) -> JobLimits {
        JobLimits {
            build_max_attempts: self.settings.build_max_attempts,
        }
    }
}
