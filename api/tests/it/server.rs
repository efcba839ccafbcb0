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
        ("API_FIRST_REQUEST_TIMEOUT_SECONDS", "1"),
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

/// One answer off a connection that stays open: its head, and its body thrown away.
async fn one_answer(connection: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
    connection.read_exact(&mut body).await?;
    Ok(head)
}

/// Refusals that come before the body was read: the next request on the connection is answered, or the refusal said that
/// there must be none.
#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_refusal_before_the_body_leaves_the_connection_usable_or_says_so(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_MAX_BODY_BYTES", "65536")]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, settings) = (api.router(), api.settings.api.clone());
    let server = tokio::spawn(async move {
        rag_api::serve(listener, router, &settings, std::future::pending()).await;
    });
    let key = api.make_key(rag_api::Role::Service, None).await;
    // 401, 404, 413, and 403: a service key at an admin's route.
    for (path, key, status) in [
        ("/api/v1/files", "wrong", "401"),
        ("/nowhere", "wrong", "404"),
        ("/api/v1/indexes", key.as_str(), "413"),
        ("/api/v1/admin/keys", key.as_str(), "403"),
    ] {
        for length in [200_000, 8 << 20] {
            for _ in 0..4 {
                let mut connection = TcpStream::connect(address).await.unwrap();
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nX-Domain-Id: acme\r\n\
                     Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                );
                connection.write_all(head.as_bytes()).await.unwrap();
                connection.write_all(&vec![b' '; length]).await.unwrap();
                let refusal = one_answer(&mut connection).await.unwrap();
                assert!(
                    refusal.starts_with(&format!("http/1.1 {status} ")),
                    "{path}: {refusal}"
                );
                if refusal.contains("connection: close") {
                    assert!(length > 1 << 20, "a small body is read: {refusal}");
                    continue;
                }
                let next = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
                connection.write_all(next).await.unwrap();
                let next = one_answer(&mut connection).await;
                assert!(
                    next.as_ref().is_ok_and(|head| head.starts_with("http/1.1 200 ")),
                    "{path}, {length} bytes, the next request: {next:?}"
                );
            }
        }
    }
    server.abort();
}
