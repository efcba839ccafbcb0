//! What connections may cost, over real ones: silence ends them, there are caps, and answers that nobody takes are given up;
//! what is meant to last is not cut.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use serde_json::{Value, json};
use sqlx::MySqlPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::{Api, id};

const FILES: &str = "/api/v1/files";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// HEADERS of stream 1 with END_STREAM and one field (`:method: GET`), to be continued, which it never is.
const HALF_HEADERS: &[u8] = &[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82];
const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
/// Longer than any of the limits of these tests, and far shorter than the default ones.
const LIMIT: Duration = Duration::from_secs(6);

struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(api: &Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, settings) = (api.router(), api.settings.api.clone());
        let task = tokio::spawn(async move {
            rag_api::serve(listener, router, &settings, std::future::pending()).await;
        });
        Self { address, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_from(&self, address: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut connection = self.connect().await;
        connection.write_all(bytes).await.unwrap();
        connection
    }
}

/// Reads to the end; `None`: the server has not ended the connection in time.
async fn end(connection: &mut TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    // A reset is an end, too.
    let ended = tokio::time::timeout(LIMIT, connection.read_to_end(&mut read)).await;
    ended.ok().map(|_| read)
}

async fn status(connection: &mut TcpStream) -> String {
    let mut start = [0; 12];
    match connection.read_exact(&mut start).await {
        Ok(_) => String::from_utf8_lossy(&start[9..]).into_owned(),
        Err(error) => error.kind().to_string(),
    }
}

fn request(api: &Api, method: &str, path: &str, more: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nX-Domain-Id: {}\r\n{more}\r\n",
        api.admin_key(),
        crate::harness::DOMAIN
    )
    .into_bytes()
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_connection_without_a_whole_request_ends(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_FIRST_REQUEST_TIMEOUT_SECONDS", "1")]).await;
    let server = Server::start(&api).await;
    let half_preface_and_more: [(&str, Vec<u8>); 8] = [
        ("nothing", Vec::new()),
        ("a byte", b"G".to_vec()),
        ("half a head", b"GET /health/live HTTP/1.1\r\nHost:".to_vec()),
        ("the beginning of TLS", vec![0x16, 0x03, 0x01, 0x02, 0x00]),
        ("half of HTTP/2's preface", PREFACE[..9].to_vec()),
        ("only the preface", PREFACE.to_vec()),
        ("HTTP/2 without a request", [PREFACE, SETTINGS].concat()),
        (
            "HTTP/2 with half of one",
            [PREFACE, SETTINGS, HALF_HEADERS].concat(),
        ),
    ];
    let mut endings = Vec::new();
    for (what, bytes) in half_preface_and_more {
        let mut connection = server.send(&bytes).await;
        endings.push(tokio::spawn(async move { (what, end(&mut connection).await) }));
    }
    for ending in endings {
        let (what, read) = ending.await.unwrap();
        let read = read.unwrap_or_else(|| panic!("{what}: the connection stays open"));
        assert!(!String::from_utf8_lossy(&read).contains(" 200 "), "{what}");
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_used_connection_ends_when_no_further_request_comes(pool: MySqlPool) {
    let limits = [
        ("API_FIRST_REQUEST_TIMEOUT_SECONDS", "60"),
        ("API_HEADER_TIMEOUT_SECONDS", "1"),
    ];
    let api = Api::with(pool, &limits).await;
    let server = Server::start(&api).await;
    for (what, more) in [("nothing", ""), ("half a head", "GET /health/live HT")] {
        let mut connection = server.send(LIVE).await;
        assert_eq!(status(&mut connection).await, "200");
        connection.write_all(more.as_bytes()).await.unwrap();
        assert!(end(&mut connection).await.is_some(), "after an answer {what}");
    }
    let mut again = server.send(LIVE).await;
    for _ in 0..5 {
        assert_eq!(status(&mut again).await, "200", "one that is used stays");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut rest = [0; 4096];
        let _read = again.read(&mut rest).await.unwrap();
        again.write_all(LIVE).await.unwrap();
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_is_meant_to_last_is_not_cut(pool: MySqlPool) {
    let limits = [
        ("API_FIRST_REQUEST_TIMEOUT_SECONDS", "1"),
        ("API_HEADER_TIMEOUT_SECONDS", "1"),
        ("API_DOWNLOAD_IDLE_SECONDS", "1"),
        ("API_UPLOAD_IDLE_SECONDS", "1"),
    ];
    let api = Api::with(pool, &limits).await;
    api.make_connection().await;
    let index = api.make_index().await;
    let server = Server::start(&api).await;
    let build = request(
        &api,
        "POST",
        &format!("/api/v1/indexes/{index}/build"),
        "Prefer: wait=4\r\nContent-Length: 0\r\n",
    );
    let mut waiting = server.send(&build).await;
    let job = id(&api.eventually_jobs(1).await[0]);
    let events = request(&api, "GET", &format!("/api/v1/jobs/{job}/events"), "");
    let mut events = server.send(&events).await;
    // As slow as it may be, for several times as long as nothing at all may come.
    let head = request(
        &api,
        "POST",
        FILES,
        "Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: 9000\r\n",
    );
    let mut upload = server.send(&head).await;
    let start = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let contents = format!("{start}{}\r\n--XX--\r\n", "x".repeat(9000 - start.len() - 10));
    for piece in contents.as_bytes().chunks(1000) {
        upload.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(status(&mut upload).await, "201");
    assert_eq!(status(&mut waiting).await, "202", "the whole wait is over");
    assert_eq!(status(&mut events).await, "200");
    let mut read = vec![0; 8192];
    let length = events.read(&mut read).await.unwrap();
    assert!(String::from_utf8_lossy(&read[..length]).contains("text/event-stream"));
    api.call("POST", &format!("/api/v1/jobs/{job}/cancel"))
        .send()
        .await;
    let rest = end(&mut events).await.expect("a stream ends with its job");
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(
        rest.contains("cancelled"),
        "the stream is alive to its end: {rest}"
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn connections_have_a_cap_for_each_address_and_for_all(pool: MySqlPool) {
    let limits = [
        ("API_MAX_CONNECTIONS", "5"),
        ("API_MAX_CONNECTIONS_PER_ADDRESS", "3"),
    ];
    let api = Api::with(pool, &limits).await;
    let server = Server::start(&api).await;
    let ask = async |mut connection: TcpStream| {
        let _refused_meanwhile = connection.write_all(LIVE).await;
        (status(&mut connection).await, connection)
    };
    let mut open = Vec::new();
    for from in [
        "127.0.0.1:0",
        "127.0.0.1:0",
        "127.0.0.1:0",
        "127.0.0.2:0",
        "127.0.0.2:0",
    ] {
        let (status, connection) = ask(server.connect_from(from).await).await;
        assert_eq!(status, "200", "from {from}");
        open.push(connection);
        if open.len() == 3 {
            let (status, _) = ask(server.connect_from(from).await).await;
            assert_ne!(status, "200", "a fourth one from {from}");
        }
    }
    let (status, _) = ask(server.connect_from("127.0.0.3:0").await).await;
    assert_ne!(status, "200", "a sixth one in all");
    drop(open.remove(0));
    let began = Instant::now();
    loop {
        let (status, _) = ask(server.connect_from("127.0.0.3:0").await).await;
        if status == "200" {
            break;
        }
        assert!(began.elapsed() < LIMIT, "there is room again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Uploads so much that no buffer on the way takes it.
async fn large_file(api: &Api) -> (String, usize) {
    let length = 24 << 20;
    let file: Value = api.upload("large.bin", &"x".repeat(length)).await;
    (format!("{FILES}/{}/download", id(&file)), length)
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_download_that_nobody_reads_gives_its_place_back(pool: MySqlPool) {
    let limits = [
        ("API_MAX_FILE_BYTES", "50000000"),
        ("API_MAX_CONCURRENT_TRANSFERS", "1"),
        ("API_DOWNLOAD_IDLE_SECONDS", "1"),
    ];
    let api = Api::with(pool, &limits).await;
    let (download, length) = large_file(&api).await;
    let server = Server::start(&api).await;
    let mut unread = server.send(&request(&api, "GET", &download, "")).await;
    assert_eq!(status(&mut unread).await, "200");
    api.get(&download).await.expect_problem(503, "overloaded");
    let began = Instant::now();
    loop {
        // Its body is not read either, so this holds nothing for long.
        let answer = api.call("GET", &download).start().await.unwrap();
        if answer.status() == 200 {
            break;
        }
        assert!(began.elapsed() < LIMIT, "the place is held for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let read = end(&mut unread).await.expect("the connection is closed");
    assert!(read.len() < length, "what was given up does not look whole");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_slow_reader_gets_all_of_it_and_one_who_is_too_slow_does_not(pool: MySqlPool) {
    let limits = [
        ("API_MAX_FILE_BYTES", "50000000"),
        ("API_DOWNLOAD_IDLE_SECONDS", "1"),
        ("API_HEADER_TIMEOUT_SECONDS", "1"),
        ("API_MIN_TRANSFER_BYTES_PER_SECOND", "1000000"),
    ];
    let api = Api::with(pool, &limits).await;
    let (download, length) = large_file(&api).await;
    let server = Server::start(&api).await;
    let read_at = async |bytes_a_tenth: usize| {
        let mut connection = server
            .send(&request(&api, "GET", &download, "Connection: close\r\n"))
            .await;
        let (mut piece, mut total) = (vec![0; bytes_a_tenth], 0);
        let began = Instant::now();
        loop {
            let mut filled = 0;
            while filled < piece.len() {
                match connection.read(&mut piece[filled..]).await {
                    Ok(0) | Err(_) => return (total + filled, began.elapsed()),
                    Ok(read) => filled += read,
                }
            }
            total += filled;
            if began.elapsed() > 5 * LIMIT {
                return (total, began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (all, took) = read_at(500_000).await;
    assert!(all > length, "of {length} bytes and a head only {all} came");
    assert!(took > Duration::from_secs(4), "{took:?}");
    let (some, took) = read_at(30_000).await;
    assert!(some < length && took < 4 * LIMIT, "{some} bytes in {took:?}");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_upload_of_a_few_bytes_a_second_is_given_up(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_MAX_CONCURRENT_TRANSFERS", "2")]).await;
    let file = id(&api.upload("a.txt", "x").await);
    let drops = |start: &'static str| {
        let pieces = futures::stream::unfold(Some(start), |piece| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(piece.unwrap_or("x"))), None))
        });
        Body::from_stream(pieces)
    };
    let start = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc";
    let form = api.call("POST", FILES);
    let form = form
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(drops(start));
    let content = api
        .call("PUT", &format!("{FILES}/{file}/content"))
        .body(drops("x"));
    let both = async { (form.send().await, content.send().await) };
    let both = tokio::time::timeout(2 * LIMIT, both).await;
    let (form, content) = both.expect("slow uploads hold their places for ever");
    for answer in [form, content] {
        let problem = answer.expect_problem(408, "request-timeout");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("less than 1024 bytes a second"), "{detail}");
    }
    assert_eq!(api.stored().len(), 1);
    assert_eq!(
        api.get(&format!("{FILES}/{file}")).await.json()["size_bytes"],
        json!(1)
    );
}
