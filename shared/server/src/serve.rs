//! Accepting connections, and ending them without cutting anybody off.
//!
//! `axum::serve` has no limits, hence a loop of our own over the same server of hyper-util.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::activity::{Activity, Exchange};
use crate::admission::Admission;
use crate::limits::{self, Limits};
use crate::stream::Stream;
use rag_telemetry::Growing;

/// The system is out of something, file descriptors most likely: how long until the next try.
const EXHAUSTED: Duration = Duration::from_millis(500);
/// How long a connection that is closed may take for its farewell.
const FAREWELL: Duration = Duration::from_secs(1);

const CLOSED: &str = "rag_http_connections_closed_total";

/// Serves until `stop`, then goes on until the last request is answered.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: impl Future<Output = ()>) {
    metrics::describe_counter!(
        CLOSED,
        "HTTP connections that the server closed: no_request (in time), unused (since the last answer), not_taken (the \
         caller did not take the answer)"
    );
    let caps = limits.caps(limits::descriptors());
    if caps.all < limits.max_connections {
        tracing::warn!(
            wanted = limits.max_connections,
            max = caps.all,
            "the process may not have file descriptors for more connections"
        );
    }
    let admission = Admission::new(caps);
    let (limits, builder) = (Arc::new(limits.clone()), builder(&limits));
    let (connections, ending) = (TaskTracker::new(), CancellationToken::new());
    let (mut failures, mut stop) = (Growing::default(), std::pin::pin!(stop));
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    after_failed_accept(&error, &mut failures).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let Some(admitted) = admission.admit(peer.ip()) else {
            continue;
        };
        let connection = Connection {
            builder: builder.clone(),
            router: router.clone(),
            activity: Activity::new(Arc::clone(&limits)),
            ending: ending.clone(),
        };
        connections.spawn(async move {
            connection.run(stream).await;
            drop(admitted);
        });
    }
    drop(listener);
    ending.cancel();
    connections.close();
    connections.wait().await;
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(limits.max_header_bytes)
        // It begins with a first byte that shows HTTP/1, so it is no help against silence: `Activity` has the deadlines.
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        // Finds peers that are gone while an answer waits for something.
        .keep_alive_interval(limits.next_request);
    builder
}

struct Connection {
    builder: Builder<TokioExecutor>,
    router: Router,
    activity: Activity,
    /// The process ends.
    ending: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let Self {
            builder,
            router,
            activity,
            ending,
        } = self;
        let requests = activity.clone();
        let service = service_fn(move |request| answer(router.clone(), requests.begin(), request));
        let stream = Stream::new(stream, activity.clone());
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        let mut is_ending = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "a connection ended badly");
                    }
                    return;
                }
                () = ending.cancelled(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                expired = activity.expired() => {
                    metrics::counter!(CLOSED, "reason" => expired.as_str()).increment(1);
                    // HTTP/2 tells the peer that a request on its way was not seen.
                    connection.as_mut().graceful_shutdown();
                    let _closed_or_cut = tokio::time::timeout(FAREWELL, connection).await;
                    return;
                }
            }
        }
    }
}

async fn answer(
    router: Router,
    exchange: Arc<Exchange>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let asked = Arc::clone(&exchange);
    let request = request.map(|body| {
        Body::new(Asked {
            body,
            _exchange: asked,
        })
    });
    let response = router.oneshot(request).await?;
    Ok(response.map(|body| exchange.answer(body)))
}

/// A request's body: the request is under way as long as anybody may read it.
struct Asked {
    body: Incoming,
    _exchange: Arc<Exchange>,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn after_failed_accept(error: &io::Error, failures: &mut Growing) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    if let Some(failed) = failures.due(Instant::now()) {
        tracing::error!(%error, failed, "no connection can be accepted at the moment");
    }
    tokio::time::sleep(EXHAUSTED).await;
}
