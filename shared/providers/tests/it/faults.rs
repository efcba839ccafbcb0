//! The fault table: each way a call can fail gives the right kind, effect and decision, and is repeated in memory only where
//! that is safe. One row, one test.

use std::time::{Duration, Instant};

use rag_providers::{
    AttachFile, Disposition, Effect, ErrorKind, Operation, PageRequest, Provider, ProviderError, Registry,
};
use serde_json::{Value, json};

use crate::server::{KEY, Reply, Server, json, status, text};

pub(crate) const RETRY: Disposition = Disposition::Retry { after: None };

fn retry_after(seconds: u64) -> Disposition {
    Disposition::Retry {
        after: Some(Duration::from_secs(seconds)),
    }
}

pub(crate) fn openai_error(code: &str) -> Value {
    json!({"error": {"message": format!("about {KEY}"), "type": "some_error", "param": null, "code": code}})
}

pub(crate) fn store_file(status: &str) -> Value {
    json!({"id": "file-1", "object": "vector_store.file", "usage_bytes": 1, "created_at": 1_700_000_000,
        "vector_store_id": "vs_1", "status": status, "last_error": null})
}

async fn read(provider: &dyn Provider) -> Result<(), ProviderError> {
    provider.get_store_file("vs_1", "file-1", None).await.map(drop)
}

async fn write(provider: &dyn Provider) -> Result<(), ProviderError> {
    let file = AttachFile {
        file_id: "file-1".to_owned(),
        ..AttachFile::default()
    };
    provider.attach_file("vs_1", file).await.map(drop)
}

struct Row {
    reply: Reply,
    kind: ErrorKind,
    /// Of the write; a read never has one.
    effect: Effect,
    disposition: Disposition,
    /// How often the read is sent; a write is sent once.
    read_tries: usize,
}

/// The server keeps failing in the same way: what do a read and a write make of it?
async fn check(row: Row) {
    for operation in [Operation::GetStoreFile, Operation::AttachFile] {
        let server = Server::start(vec![row.reply.clone(); 5]).await;
        let provider = server.provider("openai");
        let is_read = operation == Operation::GetStoreFile;
        let result = if is_read {
            read(&*provider).await
        } else {
            write(&*provider).await
        };
        let error = result.unwrap_err();
        assert_eq!((error.operation, error.kind), (operation, row.kind), "{error}");
        assert_eq!(
            error.effect,
            if is_read { Effect::None } else { row.effect },
            "{error}"
        );
        assert_eq!(error.disposition(), row.disposition, "{error}");
        assert_eq!(
            server.requests().len(),
            if is_read { row.read_tries } else { 1 },
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
        assert!(error.request_id.is_some());
    }
}

#[tokio::test]
async fn rate_limit_with_seconds_beyond_a_short_wait() {
    check(Row {
        reply: status(429, &openai_error("rate_limit_exceeded")).header("retry-after", "60"),
        kind: ErrorKind::RateLimited,
        effect: Effect::None,
        disposition: retry_after(60),
        read_tries: 1,
    })
    .await;
}

#[tokio::test]
async fn rate_limit_with_a_short_wait_in_seconds() {
    let server = Server::start([
        status(429, &openai_error("rate_limit_exceeded")).header("retry-after", "1"),
        json(&store_file("completed")),
    ])
    .await;
    let started = Instant::now();
    read(&*server.provider("openai")).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn rate_limit_with_a_date() {
    check(Row {
        reply: status(429, &openai_error("rate_limit_exceeded"))
            .header("date", "Fri, 02 Jan 2026 03:04:05 GMT")
            .header("retry-after", "Fri, 02 Jan 2026 03:04:35 GMT"),
        kind: ErrorKind::RateLimited,
        effect: Effect::None,
        disposition: retry_after(30),
        read_tries: 1,
    })
    .await;
}

#[tokio::test]
async fn rate_limit_without_a_wish() {
    check(Row {
        reply: status(429, &openai_error("rate_limit_exceeded")),
        kind: ErrorKind::RateLimited,
        effect: Effect::None,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn exhausted_quota() {
    check(Row {
        reply: status(429, &openai_error("insufficient_quota")),
        kind: ErrorKind::QuotaExceeded,
        effect: Effect::None,
        disposition: Disposition::WaitForOperator,
        read_tries: 1,
    })
    .await;
}

#[tokio::test]
async fn server_error() {
    check(Row {
        reply: status(500, &openai_error("server_error")),
        kind: ErrorKind::Unavailable,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn unavailable() {
    check(Row {
        reply: text(503, "<html>overloaded</html>"),
        kind: ErrorKind::Unavailable,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn wrong_key() {
    check(Row {
        reply: status(401, &openai_error("invalid_api_key")),
        kind: ErrorKind::Unauthorized,
        effect: Effect::None,
        disposition: Disposition::WaitForOperator,
        read_tries: 1,
    })
    .await;
}

#[tokio::test]
async fn connection_broken_within_the_body() {
    check(Row {
        reply: Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"id\":\"file-1\"".to_vec()),
        kind: ErrorKind::Unavailable,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn connection_closed_instead_of_an_answer() {
    check(Row {
        reply: Reply::Raw(Vec::new()),
        kind: ErrorKind::Unavailable,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn truncated_json() {
    check(Row {
        reply: text(200, r#"{"id":"file-1","object":"vector_sto"#),
        kind: ErrorKind::Protocol,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn html_instead_of_json() {
    check(Row {
        reply: text(200, "<html><body>Please sign in</body></html>"),
        kind: ErrorKind::Protocol,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn wrong_object_in_the_answer() {
    check(Row {
        reply: json(&json!({"id": "vs_1", "object": "vector_store", "status": "completed"})),
        kind: ErrorKind::Protocol,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 1,
    })
    .await;
}

#[tokio::test]
async fn redirect() {
    check(Row {
        reply: text(307, "").header("location", "http://169.254.169.254/latest/meta-data"),
        kind: ErrorKind::Protocol,
        effect: Effect::None,
        disposition: RETRY,
        read_tries: 1,
    })
    .await;
}

#[tokio::test]
async fn not_found_after_creation() {
    let server = Server::start(vec![status(404, &openai_error("not_found")); 3]).await;
    let provider = server.provider("openai");
    let error = provider.get_vector_store("vs_1").await.unwrap_err();
    assert_eq!(
        (error.kind, error.disposition()),
        (ErrorKind::NotFound, Disposition::Fail)
    );
    let now = chrono::Utc::now();
    let young = provider
        .get_store_file("vs_1", "file-1", Some(now))
        .await
        .unwrap();
    assert!(!young.status.is_terminal() && young.raw.is_null());
    let old = now - chrono::Duration::hours(1);
    let error = provider
        .get_store_file("vs_1", "file-1", Some(old))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn slow_drip() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n".to_vec();
    check(Row {
        reply: Reply::Drip(head, vec![b' '; 500], Duration::from_millis(20)),
        kind: ErrorKind::Timeout,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn timeout_after_sending() {
    check(Row {
        reply: Reply::Silence,
        kind: ErrorKind::Timeout,
        effect: Effect::Unknown,
        disposition: RETRY,
        read_tries: 3,
    })
    .await;
}

#[tokio::test]
async fn the_whole_call_has_its_limit_too() {
    let server = Server::start(vec![Reply::Silence; 5]).await;
    let mut config = server.config("openai");
    config.timeouts.whole_call = Duration::from_millis(800);
    let provider = Registry::builtin().open(config).unwrap();
    let started = Instant::now();
    assert_eq!(read(&*provider).await.unwrap_err().kind, ErrorKind::Timeout);
    assert!(
        started.elapsed() < Duration::from_millis(1200),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn refused_connection_has_no_effect_and_is_repeated_even_for_writes() {
    let server = Server::start([]).await;
    let mut config = server.config("openai");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    config.base_url = Some(format!("http://{free}/v1"));
    let started = Instant::now();
    let error = write(&*Registry::builtin().open(config).unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::Unavailable, Effect::None),
        "{error}"
    );
    assert!(
        started.elapsed() >= Duration::from_millis(400),
        "tried again after a pause"
    );
}

#[tokio::test]
async fn a_deletion_whose_first_answer_was_lost_succeeds_on_the_second() {
    let server = Server::start([Reply::Raw(Vec::new()), status(404, &openai_error("not_found"))]).await;
    let deleted = server
        .provider("openai")
        .delete_vector_store("vs_1")
        .await
        .unwrap();
    assert!(!deleted.existed);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_kept_connection_closed_without_notice_does_not_hurt_the_next_call() {
    let server = Server::start([
        Reply::AnswerAndClose(400, openai_error("bad").to_string()),
        json(&store_file("in_progress")),
    ])
    .await;
    let provider = server.provider("openai");
    assert_eq!(
        write(&*provider).await.unwrap_err().kind,
        ErrorKind::InvalidRequest
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    write(&*provider).await.unwrap();
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let body = vec![b' '; 33 * 1024 * 1024];
    let server = Server::start([Reply::Answer {
        status: 200,
        headers: Vec::new(),
        body,
    }])
    .await;
    let mut config = server.config("openai");
    config.timeouts.per_try = Duration::from_secs(20);
    config.timeouts.whole_call = Duration::from_secs(20);
    let provider = Registry::builtin().open(config).unwrap();
    let error = provider
        .list_vector_stores(PageRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
}
