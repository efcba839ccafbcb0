//! Puts the program together: database, queue, providers, maintenance, health port; and takes it apart again.

use std::sync::Arc;

use anyhow::Context as _;
use apalis_mariadb::{Queue, QueueConfig, Retention, StorageConfig, Wait, WorkerSet};
use rag_connections::Connections;
use rag_domain::DomainId;
use rag_files::FileStore;
use rag_jobs::{
    DomainSync, FileDelete, FileDetach, FileUpload, IndexBuild, IndexCancel, IndexDelete, IndexStoreDelete,
    IndexSync, OrphanReconcile, ProviderProbe, ProviderSync,
};
use rag_mariadb::Purpose;
use rag_settings::{QueueSettings, Settings};
use rag_telemetry::Metrics;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::maintenance::{self, files_root, schedule};
use crate::{jobs, server};

/// The queue's engine has connections of its own beside the pool's: it claims, acknowledges, polls for work, and keeps leases.
const ENGINE_CONNECTIONS: u32 = 5;

/// Runs jobs until `shutdown` resolves, then stops claiming, lets running jobs stop within the grace time and
/// releases what is not finished.
pub async fn run(
    settings: Settings,
    metrics: Metrics,
    shutdown: impl Future<Output = &'static str> + Send + 'static,
) -> anyhow::Result<()> {
    let database = &settings.database;
    let purpose = Purpose::Serve {
        connections: database.max_connections + ENGINE_CONNECTIONS,
    };
    let pool = rag_mariadb::connect_checked(database.uri.expose(), database.max_connections, purpose).await?;
    rag_db::check_schema(&pool).await?;
    let queue = Queue::new(pool.clone(), queue_config(&settings.queue));
    let files = FileStore::at(&settings.files.root);
    files.distrust("it was not checked yet");
    files_root::check(&pool, &files).await?;
    let context = Context {
        pool: pool.clone(),
        queue: queue.clone(),
        files: files.clone(),
        connections: Arc::new(
            Connections::from_settings(&settings.providers, pool.clone()).context("PROVIDER_SECRETS_KEY")?,
        ),
        settings: Arc::new(settings.worker.clone()),
        files_settings: Arc::new(settings.files.clone()),
        retention: settings.queue.retention,
        sync: Arc::new(settings.sync.clone()),
        default_domain: DomainId::try_from(settings.providers.default_domain_id.clone())
            .context("DEFAULT_DOMAIN_ID")?,
        build_slots: Arc::new(Semaphore::new(settings.worker.concurrency)),
    };

    let stop = CancellationToken::new();
    let serving = server::start(&settings.worker, queue.clone(), files, metrics, stop.clone())
        .await
        .with_context(|| format!("cannot listen on {}", settings.worker.listen))?;
    let recurring = tokio::spawn(maintenance::run(context.clone(), stop.clone()));
    let schedule = tokio::spawn(schedule::run(context.clone(), stop.clone()));

    let slots = StorageConfig {
        concurrency: settings.worker.concurrency,
        ..StorageConfig::default()
    };
    let workers = WorkerSet::new(queue)
        .register::<IndexBuild, _, _, _, _>(slots.clone(), context.clone(), jobs::index_build::handle)?
        .register::<FileUpload, _, _, _, _>(slots.clone(), context.clone(), jobs::file_upload::handle)?
        .register::<IndexDelete, _, _, _, _>(slots.clone(), context.clone(), jobs::index_delete::handle)?
        .register::<IndexStoreDelete, _, _, _, _>(
            slots.clone(),
            context.clone(),
            jobs::index_store_delete::handle,
        )?
        .register::<IndexCancel, _, _, _, _>(slots.clone(), context.clone(), jobs::index_cancel::handle)?
        .register::<FileDelete, _, _, _, _>(slots.clone(), context.clone(), jobs::file_delete::handle)?
        .register::<FileDetach, _, _, _, _>(slots.clone(), context.clone(), jobs::file_detach::handle)?
        .register::<OrphanReconcile, _, _, _, _>(
            slots.clone(),
            context.clone(),
            jobs::orphan_reconcile::handle,
        )?
        .register::<ProviderProbe, _, _, _, _>(slots.clone(), context.clone(), jobs::provider_probe::handle)?
        .register::<IndexSync, _, _, _, _>(slots.clone(), context.clone(), jobs::index_sync::handle)?
        .register::<DomainSync, _, _, _, _>(slots.clone(), context.clone(), jobs::domain_sync::handle)?
        .register::<ProviderSync, _, _, _, _>(slots, context, jobs::provider_sync::handle)?;
    let ended = workers
        .run(
            async move {
                let signal = shutdown.await;
                tracing::info!(signal, "shutting down");
            },
            settings.worker.grace,
        )
        .await;
    stop.cancel();
    recurring.await.context("the maintenance task failed")?;
    schedule.await.context("the schedule's task failed")?;
    serving.await.context("the health server failed")?;
    pool.close().await;
    ended.context("the queue's workers failed")
}

fn queue_config(settings: &QueueSettings) -> QueueConfig {
    QueueConfig {
        lease: settings.lease,
        wait: Wait::Server { step: settings.poll },
        retention: Retention {
            done: settings.retention,
            cancelled: settings.retention,
            failed: settings.retention,
        },
        ..QueueConfig::default()
    }
}
