//! `rag-api serve`: start, serve, and end without cutting anybody off.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apalis_mariadb::{Queue, QueueConfig};
use rag_db::{DbError, idempotency};
use rag_files::FileStore;
use rag_mariadb::Purpose;
use rag_settings::{ApiAuth, Settings};
use rag_telemetry::Metrics;
use sqlx::MySqlPool;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::files_root;
use crate::http::auth::KeyCache;
use crate::state::{App, Parts};

const SWEEP_EVERY: Duration = Duration::from_hours(1);

pub(super) async fn serve(settings: &Settings) -> Result<()> {
    let stop = rag_telemetry::shutdown_signal()?;
    let metrics = Metrics::install()?;
    let purpose = Purpose::Serve {
        connections: settings.database.max_connections,
    };
    let db = super::connect(settings, purpose).await?;
    rag_db::check_schema(&db).await?;
    require_a_key(&db, settings.api.auth).await?;
    let files = FileStore::at(&settings.files.root);
    // If the folder is not mounted yet, everything that needs no files is served, and the log says so.
    if let Err(error) = files_root::claim(&db, &files).await {
        tracing::error!(root = %settings.files.root.display(), %error, "FILES_ROOT cannot be used yet");
        tokio::spawn(files_root::claim_in_time(db.clone(), files.clone()));
    }

    let app = App::new(Parts {
        queue: Queue::new(db.clone(), QueueConfig::default()),
        connections: super::connections(settings, db.clone())?,
        settings: settings.clone(),
        keys: KeyCache::default(),
        db,
        files,
        metrics,
    });
    tokio::spawn(sweep(app.clone()));
    let listen = settings.api.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("API_LISTEN: cannot listen at {listen}"))?;
    tracing::info!(address = %listener.local_addr()?, docs = "/docs", "serving");

    let (ending, ended) = oneshot::channel::<()>();
    let jobs = app.jobs().clone();
    let server = crate::serve(listener, crate::router(app), &settings.api, async {
        let _sender_gone = ended.await;
    });
    let grace = settings.api.grace;
    tokio::select! {
        () = server => Ok(()),
        () = async {
            let signal = stop.await;
            tracing::info!(signal, "ending: no new requests are taken");
            let _server_gone = ending.send(());
            jobs.events().close();
            tokio::time::sleep(grace).await;
            tracing::warn!("requests were still running at the end of API_GRACE_SECONDS");
        } => Ok(()),
    }
}

/// Without a key no one could call the API; serving without keys must be set explicitly.
async fn require_a_key(db: &MySqlPool, auth: ApiAuth) -> Result<()> {
    match auth {
        ApiAuth::Off => {
            tracing::warn!("API_AUTH=off: everyone who reaches the port is an admin for every domain");
            Ok(())
        }
        ApiAuth::Keys if rag_db::api_keys::any_active(&mut *db.acquire().await?).await? => Ok(()),
        ApiAuth::Keys => bail!(
            "there is no API key yet. Make one with `rag-api keys create --name admin --role admin`, or set API_AUTH=off"
        ),
    }
}

async fn sweep(app: App) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        app.rates().tidy();
        if let Err(error) = prune_keys(&app.db).await {
            tracing::warn!(%error, "old idempotency keys could not be removed");
        }
        if let Err(error) = files_root::tell_owner(&app.db, &app.files).await {
            tracing::warn!(%error, "could not tell whether another database sweeps FILES_ROOT");
        }
    }
}

async fn prune_keys(db: &MySqlPool) -> Result<(), DbError> {
    let mut connection = db.acquire().await?;
    while idempotency::prune(&mut connection).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use rag_domain::ApiKeyId;

    use super::*;

    #[sqlx::test(migrator = "rag_db::MIGRATOR")]
    async fn serving_needs_a_key_or_an_explicit_no(db: MySqlPool) {
        let error = require_a_key(&db, ApiAuth::Keys).await.unwrap_err();
        assert!(error.to_string().contains("rag-api keys create"), "{error}");
        assert!(require_a_key(&db, ApiAuth::Off).await.is_ok());
        let id = ApiKeyId::new();
        let mut connection = db.acquire().await.unwrap();
        rag_db::api_keys::insert(&mut connection, id, "k", "admin", None, &"0".repeat(64))
            .await
            .unwrap();
        assert!(require_a_key(&db, ApiAuth::Keys).await.is_ok());
        rag_db::api_keys::revoke(&mut connection, id).await.unwrap();
        assert!(require_a_key(&db, ApiAuth::Keys).await.is_err());
    }
}
