//! The worker's own HTTP port: is it alive, is its database there, what do its metrics say. No part of the product API.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use rag_telemetry::Metrics;
use sqlx::MySqlPool;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone)]
struct Server {
    pool: MySqlPool,
    metrics: Metrics,
}

/// Binds at once, so that a taken port is an error at the start; serves until `stop`.
pub(crate) async fn start(
    listen: SocketAddr,
    pool: MySqlPool,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<tokio::task::JoinHandle<std::io::Result<()>>> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    tracing::info!(address = %listener.local_addr()?, "health and metrics");
    let router = Router::new()
        .route("/health/live", get(|| async { "ok" }))
        .route("/health/ready", get(ready))
        .route(
            "/metrics",
            get(|State(server): State<Server>| async move { server.metrics.render() }),
        )
        .with_state(Server { pool, metrics });
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    Ok(tokio::spawn(async move { serving.await }))
}

async fn ready(State(server): State<Server>) -> (StatusCode, &'static str) {
    match sqlx::query("DO 1").execute(&server.pool).await {
        Ok(_) => (StatusCode::OK, "ready"),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer")
        }
    }
}
