//! A TCP proxy that can be turned to another server: what a virtual address or a load balancer does in a switchover. Connections
//! that are there stay where they are.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// A running proxy; it and its connections end with this value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    /// Its own: a test blocks its runtime while it drops what it has.
    runtime: Option<Runtime>,
}

impl Proxy {
    /// In front of a port of 127.0.0.1.
    pub fn start(target: u16) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        runtime.spawn(accept(listener, Arc::clone(&target)));
        Self {
            port,
            target,
            runtime: Some(runtime),
        }
    }

    /// Where it listens, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go to another port from now on.
    pub fn switch_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, target: Arc<AtomicU16>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            continue;
        };
        let target = target.load(Ordering::SeqCst);
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else {
                return;
            };
            let _slower_at_worst = (client.set_nodelay(true), server.set_nodelay(true));
            // Either side may end it in any way.
            let _ended = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
