//! More connections than a process may have file descriptors, and callers who send or take nothing: real programs, and both
//! versions of HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rag_tests::{Stack, eventually};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use crate::fixtures::indexes::index_with;

const LIMIT: Duration = Duration::from_secs(20);
const SILENT: usize = 220;

async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Connections that send nothing, all from one address.
async fn silent(to: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..SILENT {
        connections.push(connect_from("127.0.0.1:0", to).await);
    }
    connections
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// A caller from another address than the silent ones have; each request on a connection of its own.
fn another() -> reqwest::Client {
    reqwest::Client::builder()
        .local_address("127.0.0.2".parse::<std::net::IpAddr>().unwrap())
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

/// The value of the metric with these labels.
fn metric(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn silent_connections_silence_nobody() {
    let stack = Stack::builder()
        .before_api("ulimit -n 200")
        .setting("API_FIRST_REQUEST_TIMEOUT_SECONDS", "4")
        .start()
        .await;
    let (api, http) = (address(&stack.api_url), another());
    let live = format!("{}/health/live", stack.api_url);
    let silent = silent(api).await;
    for _ in 0..10 {
        let answer = http
            .get(&live)
            .send()
            .await
            .expect("others are answered meanwhile");
        assert_eq!(answer.status(), 200);
    }
    let text = http
        .get(format!("{}/metrics", stack.api_url))
        .send()
        .await
        .unwrap();
    let text = text.text().await.unwrap();
    let refused = metric(&text, r#"rag_http_connections_refused_total{cap="address"}"#);
    assert!(refused >= 100.0, "{refused} of {SILENT} were refused");
    // The silent ones' own address, as soon as their time is over.
    let own = reqwest::Client::new();
    eventually("the address to be answered again", LIMIT, || async {
        own.get(&live)
            .send()
            .await
            .ok()
            .filter(|answer| answer.status() == 200)
    })
    .await;
    drop(silent);
    let lines = stack.logs().matches("too many connections").count();
    assert!(
        (1..=5).contains(&lines),
        "{lines} lines about {refused} connections"
    );
}

/// There are caps for connections, but descriptors may run out all the same.
#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    let stack = Stack::builder()
        // Half are for connections, and the rest is not enough for what else the process holds open.
        .before_api("ulimit -n 48")
        .setting("API_FIRST_REQUEST_TIMEOUT_SECONDS", "3")
        .setting("API_MAX_CONNECTIONS_PER_ADDRESS", "1000")
        .start()
        .await;
    // The pool takes what there is for its connections.
    let files = (0..8).map(|_| stack.client.get("/files"));
    futures::future::join_all(files).await;
    let silent = silent(address(&stack.api_url)).await;
    let live = format!("{}/health/live", stack.api_url);
    let http = another();
    eventually("the API to be answering again", LIMIT, || async {
        http.get(&live)
            .send()
            .await
            .ok()
            .filter(|answer| answer.status() == 200)
    })
    .await;
    drop(silent);
    stack.client.get("/files").await.expect(200);
}

#[tokio::test]
async fn silent_connections_do_not_silence_a_worker() {
    let stack = Stack::start().await;
    let listen = rag_tests::free_address();
    let settings = [
        ("WORKER_LISTEN", listen.as_str()),
        ("WORKER_HEADER_TIMEOUT_SECONDS", "2"),
        ("WORKER_MAX_CONNECTIONS", "100"),
    ];
    let _worker = stack.worker_with("w", &settings);
    let (live, http) = (format!("http://{listen}/health/live"), another());
    let ask = async || {
        http.get(&live)
            .send()
            .await
            .ok()
            .filter(|answer| answer.status() == 200)
    };
    eventually("the worker to listen", LIMIT, ask).await;
    let silent = silent(listen.parse().unwrap()).await;
    assert!(ask().await.is_some(), "another address is answered meanwhile");
    let began = Instant::now();
    let mut ended = 0;
    for connection in &silent {
        let left = LIMIT.saturating_sub(began.elapsed());
        let mut byte = [0];
        if tokio::time::timeout(left, connection.readable()).await.is_ok() {
            ended += usize::from(!matches!(connection.try_read(&mut byte), Ok(1..)));
        }
    }
    assert_eq!(ended, SILENT, "each is closed");
}

/// Over HTTP/2 the connection may be alive while a stream stands still.
#[tokio::test]
async fn an_unread_download_over_http2_gives_its_permit_back_and_others_on_the_connection_go_on() {
    let stack = Stack::builder()
        .setting("API_MAX_CONCURRENT_TRANSFERS", "1")
        .setting("API_DOWNLOAD_IDLE_SECONDS", "2")
        .setting("API_HEADER_TIMEOUT_SECONDS", "2")
        .start()
        .await;
    let (index, _) = index_with(&stack, 1).await;
    let http = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let ask = |method: Method, path: &str| {
        let request = http.request(method, format!("{}/api/v1{path}", stack.api_url));
        request
            .bearer_auth(stack.client.key())
            .header("X-Domain-Id", rag_tests::DOMAIN)
    };
    let part = Part::bytes(vec![b'x'; 24 << 20]).file_name("a.bin");
    let form = Form::new().part("file", part);
    let uploaded = ask(Method::POST, "/files").multipart(form).send().await.unwrap();
    let file: Value = uploaded.json().await.unwrap();
    let download = format!("/files/{}/download", file["id"].as_str().unwrap());
    let mut unread = ask(Method::GET, &download).send().await.unwrap();
    assert_eq!(
        (unread.status().as_u16(), unread.version()),
        (200, reqwest::Version::HTTP_2)
    );
    let refused = ask(Method::GET, &download).send().await.unwrap();
    assert_eq!(refused.status(), 503);

    // A stream of events on the same connection, which lasts.
    let job = stack.client.build(&index).await;
    let mut events = ask(Method::GET, &format!("/jobs/{job}/events"))
        .send()
        .await
        .unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    eventually("the permit to be free", LIMIT, || async {
        let answer = ask(Method::GET, &download).send().await.unwrap();
        (answer.status() == 200).then_some(())
    })
    .await;
    let end = loop {
        match unread.chunk().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(
        end.is_err(),
        "a download that was given up must not seem complete"
    );
    let _worker = stack.worker("w");
    let mut rest = String::new();
    while let Some(piece) = events.chunk().await.unwrap() {
        rest.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert!(
        rest.contains(r#""state":"done""#),
        "the stream of events was not cut: {rest}"
    );
}
