//! How the API's connections are served: by `rag-server`, within the limits that the settings name.

use axum::Router;
use rag_server::{LeastRate, Limits};
use rag_settings::ApiSettings;
use tokio::net::TcpListener;

/// Serves until `stop`, then goes on until the last request is answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &ApiSettings,
    stop: impl Future<Output = ()>,
) {
    let limits = Limits {
        max_header_bytes: settings.max_header_bytes,
        first_request: settings.first_request_timeout,
        next_request: settings.header_timeout,
        max_connections: settings.max_connections,
        max_connections_per_address: settings.max_connections_per_address,
        answers: LeastRate {
            idle: settings.download_idle,
            bytes_per_second: settings.min_transfer_bytes_per_second,
        },
    };
    rag_server::serve(listener, router, limits, stop).await;
}
