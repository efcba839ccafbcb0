//! Connections: accepting them, what their headers may cost, and ending them without cutting anybody off.
//!
//! `axum::serve` has no limits for headers, hence a loop of our own over the same server of hyper-util.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rag_settings::ApiSettings;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

/// The system is out of something, file descriptors most likely: how long until the next try.
const EXHAUSTED: Duration = Duration::from_millis(500);

/// Serves until `stop`, then goes on until the last request is answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &ApiSettings,
    stop: impl Future<Output = ()>,
) {
    let builder = builder(settings);
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    after_failed_accept(&error).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let connection = builder
            .serve_connection_with_upgrades(io_of(stream), TowerToHyperService::new(service(&router)))
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

fn builder(settings: &ApiSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // Headers that are larger, or too many, are answered with 431, slower ones with the end of the connection.
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(settings.max_header_bytes)
        .header_read_timeout(settings.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(settings.header_timeout);
    builder
}

fn service(
    router: &Router,
) -> impl tower::Service<
    Request<hyper::body::Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    router
        .clone()
        .map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new))
}

fn io_of(stream: TcpStream) -> TokioIo<TcpStream> {
    // Answers are written whole: there is nothing to wait for.
    let _slower_at_worst = stream.set_nodelay(true);
    TokioIo::new(stream)
}

async fn after_failed_accept(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        tracing::error!(%error, "no connection can be accepted at the moment");
        tokio::time::sleep(EXHAUSTED).await;
    }
}
