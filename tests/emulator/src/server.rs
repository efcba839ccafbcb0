//! Connections: accepting them, and ending them as a fault demands. HTTP/1.1 only, as a fault needs the bare socket.

use crate::faults::Loss;
use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::time::Duration;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// Time for the kernel to send what was written before a connection is ended.
pub(crate) const FLUSH: Duration = Duration::from_millis(30);

/// The connection a request came in on, as an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Connection(mpsc::UnboundedSender<Loss>);

impl Connection {
    /// Ends the connection once what is being answered has gone out, and says nothing of it before.
    pub(crate) fn end_after_answer(&self) {
        let connection = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FLUSH).await;
            connection.end(Loss::Close);
        });
    }

    /// Ends the connection; nothing more is sent on it.
    pub(crate) fn end(&self, how: Loss) {
        // An error means that it has ended by itself.
        let _ = self.0.send(how);
    }
}

/// Serves until `stop`; then open connections are dropped at once.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: some connection has to end first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve_one(stream, router) => {}
            }
        });
    }
}

async fn serve_one(stream: TcpStream, router: Router) {
    // Answers are small and must not wait for each other; failing to say so only costs time.
    let _ = stream.set_nodelay(true);
    let (sender, mut ends) = mpsc::unbounded_channel();
    let connection = Connection(sender);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connection.clone());
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let how = tokio::select! {
        // A client that goes away in the middle is no error of ours.
        _ = &mut http => return,
        Some(how) = ends.recv() => how,
    };
    if how == Loss::Reset {
        let stream = http.into_parts().io.into_inner();
        // Without it the close below is an orderly one, which clients treat as a failure all the same.
        let _ = stream.set_zero_linger();
    }
}
