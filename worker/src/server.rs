//! The worker's own HTTP port: is it alive, does it get on with its work, what do its metrics say. No part of the product API.

use std::time::Duration;

use apalis_mariadb::Queue;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use rag_files::FileStore;
use rag_server::{LeastRate, Limits};
use rag_settings::WorkerSettings;
use rag_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

/// Of a request's head. Scrapers and probes send a few hundred bytes.
const HEADER_BYTES: usize = 16 * 1024;

/// Metrics are a few hundred kilobytes at most, and who asks for them is near.
const ANSWERS: LeastRate = LeastRate {
    idle: Duration::from_secs(30),
    bytes_per_second: 1024,
};

/// A readiness probe does not wait for long.
const DATABASE_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

const HEALTHY: &str = "rag_queue_healthy";
const FAILURES: &str = "rag_queue_failures_total";
const FILES_READABLE: &str = "rag_files_readable";

#[derive(Debug, Clone)]
struct Server {
    queue: Queue,
    files: FileStore,
    metrics: Metrics,
}

/// Binds at once, so that a taken port is an error at the start; serves until `stop`.
pub(crate) async fn start(
    settings: &WorkerSettings,
    queue: Queue,
    files: FileStore,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    metrics::describe_gauge!(
        HEALTHY,
        "1 while this worker's queue can poll for work, claim, keep leases and acknowledge; 0 once it has failed to for \
         some seconds"
    );
    metrics::describe_counter!(
        FAILURES,
        "Failed statements of this worker's queue, by task and by the cause that the database names"
    );
    metrics::describe_gauge!(
        FILES_READABLE,
        "1 while this worker can read the stored files; 0 while FILES_ROOT is not mounted, or a file could not be read by no \
         fault of its own"
    );
    let listener = tokio::net::TcpListener::bind(settings.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "health and metrics");
    let router = Router::new()
        .route("/health/live", get(|| async { "ok" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(render))
        .with_state(Server {
            queue,
            files,
            metrics,
        });
    let limits = Limits {
        max_header_bytes: HEADER_BYTES,
        first_request: settings.header_timeout,
        next_request: settings.header_timeout,
        max_connections: settings.max_connections,
        max_connections_per_address: settings.max_connections_per_address,
        answers: ANSWERS,
    };
    let serving = rag_server::serve(listener, router, limits, async move { stop.cancelled().await });
    Ok(tokio::spawn(serving))
}

async fn ready(State(server): State<Server>) -> (StatusCode, String) {
    match reason_not_ready(&server).await {
        None => (StatusCode::OK, "ready".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

/// The queue knows best: it works all the time. A worker whose queue has only just started is asked for its database. A worker
/// that cannot read the stored files does the rest of its work, and hands back what needs them.
async fn reason_not_ready(server: &Server) -> Option<String> {
    if let Some(trouble) = server.queue.failure() {
        return Some(trouble.to_string());
    }
    if let Some(trouble) = server.files.failure() {
        return Some(trouble.to_string());
    }
    let asking = async {
        let mut connection = server.queue.pool().acquire().await?;
        rag_db::check_writable(&mut connection).await
    };
    match tokio::time::timeout(DATABASE_ANSWERS_WITHIN, asking).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the database cannot be used: {error}")),
        Err(_) => Some(format!(
            "the database did not answer within {DATABASE_ANSWERS_WITHIN:?}"
        )),
    }
}

async fn render(State(server): State<Server>) -> String {
    let healthy = server.queue.failure().is_none();
    metrics::gauge!(HEALTHY).set(if healthy { 1.0 } else { 0.0 });
    let readable = server.files.failure().is_none();
    metrics::gauge!(FILES_READABLE).set(if readable { 1.0 } else { 0.0 });
    for failures in server.queue.failures() {
        metrics::counter!(FAILURES, "task" => failures.task, "cause" => failures.cause.as_str())
            .absolute(failures.count);
    }
    server.metrics.render()
}
