//! The server's own limits, over real connections.

use std::time::{Duration, Instant};

use sqlx::MySqlPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::harness::Api;

async fn answer(connection: &mut TcpStream) -> String {
    let mut text = String::new();
    // An end without notice is an end, too.
    let _closed = connection.read_to_string(&mut text).await;
    text
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn heads_that_are_large_or_slow_end_the_connection(pool: MySqlPool) {
    let limits = [
        ("API_MAX_HEADER_BYTES", "8192"),
        ("API_HEADER_TIMEOUT_SECONDS", "1"),
    ];
    let api = Api::with(pool, &limits).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (router, settings) = (api.router(), api.settings.api.clone());
    let server = tokio::spawn(async move {
        rag_api::serve(listener, router, &settings, async {
            let _sender_gone = stopped.await;
        })
        .await;
    });
    let connect = async || TcpStream::connect(address).await.unwrap();

    let mut good = connect().await;
    let head = format!(
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Fill: {}\r\n\r\n",
        "x".repeat(6000)
    );
    good.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 15];
    good.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");

    let mut large = connect().await;
    let head = format!(
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Fill: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let _refused_meanwhile = large.write_all(head.as_bytes()).await;
    assert!(answer(&mut large).await.starts_with("HTTP/1.1 431 "));

    let began = Instant::now();
    let mut slow = connect().await;
    slow.write_all(b"GET /health/live HTTP/1.1\r\nHost:")
        .await
        .unwrap();
    let said = answer(&mut slow).await;
    assert!(!said.contains("200 OK"), "{said}");
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(5),
        "{took:?}"
    );

    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), server)
        .await
        .unwrap()
        .unwrap();
}
