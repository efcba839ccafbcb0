//! A TCP proxy that can be turned to another server: what a virtual address or a load balancer does in a switchover. Connections
//! that are there stay where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running proxy; it takes no further connections once this value is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of a port of 127.0.0.1.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&target)));
        Self {
            port,
            target,
            accepting,
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
        self.accepting.abort();
    }
}
