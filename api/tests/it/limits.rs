//! What is refused so that there is enough for everybody: requests over a key's rate, requests on top of what the process
//! carries out, files over a domain's quota.

use std::time::Duration;

use axum::body::Body;
use futures::future::join_all;
use rag_api::Role;
use serde_json::json;
use sqlx::MySqlPool;

use crate::harness::{Answer, Api, id};

const FILES: &str = "/api/v1/files";

/// A body that never comes.
fn endless() -> Body {
    Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>())
}

fn text(answer: &Answer, name: &str) -> String {
    answer.headers[name].to_str().unwrap().to_owned()
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_key_has_a_rate_of_its_own(pool: MySqlPool) {
    let limits = [("API_RATE_LIMIT_PER_SECOND", "1"), ("API_RATE_LIMIT_BURST", "3")];
    let api = Api::with(pool, &limits).await;
    let other = api.make_key(Role::Service, None).await;
    for left in [2, 1, 0] {
        let answer = api.get(FILES).await;
        answer.expect(200);
        assert_eq!(text(&answer, "ratelimit"), format!("\"key\";r={left}"));
        assert_eq!(text(&answer, "ratelimit-policy"), "\"key\";q=3;w=3");
    }
    let refused = api.get(FILES).await;
    refused.expect_problem(429, "too-many-requests");
    assert_eq!(text(&refused, "retry-after"), "1");
    assert_eq!(text(&refused, "ratelimit"), "\"key\";r=0");
    // Admin routes and transfers are counted with the rest.
    let admin = api.get("/api/v1/admin/keys").await;
    admin.expect_problem(429, "too-many-requests");
    let upload = api.call("POST", FILES).form(&[("file", Some("a"), "x")]);
    upload.send().await.expect_problem(429, "too-many-requests");
    api.call("GET", FILES).key(&other).send().await.expect(200);
    api.call("GET", "/health/live").send().await.expect(200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    api.get(FILES).await.expect(200);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn without_a_limit_nothing_is_said_of_one(pool: MySqlPool) {
    let api = Api::new(pool).await;
    for _ in 0..50 {
        let answer = api.get(FILES).await;
        answer.expect(200);
        assert!(!answer.headers.contains_key("ratelimit"));
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_comes_on_top_is_shed_and_what_only_waits_does_not_count(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_MAX_CONCURRENT_REQUESTS", "1")]).await;
    api.make_connection().await;
    let index = api.make_index().await;
    // A caller who waits for a job that no worker takes up, and a listener: both have given their place back.
    let build = api.call("POST", &format!("/api/v1/indexes/{index}/build"));
    let waiting = build.header("prefer", "wait=20").start();
    let jobs = api.eventually_jobs(1).await;
    let events = format!("/api/v1/jobs/{}/events", id(&jobs[0]));
    let stream = api.call("GET", &events).start().await.unwrap();
    assert_eq!(stream.status(), 200);
    api.get(FILES).await.expect(200);

    let busy = api.call("POST", "/api/v1/indexes");
    let busy = busy
        .header("content-type", "application/json")
        .body(endless())
        .start();
    let refused = api.eventually(FILES, 503).await;
    refused.expect_problem(503, "overloaded");
    assert_eq!(text(&refused, "retry-after"), "1");
    let admin = api.get("/api/v1/admin/keys").await;
    admin.expect_problem(503, "overloaded");
    let another = api.call("GET", &events).start().await.unwrap();
    assert_eq!(
        another.status(),
        200,
        "a browser does not come back from a refusal"
    );
    // Neither operators nor transfers are starved.
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    api.upload("a.txt", "x").await;
    busy.abort();
    api.eventually(FILES, 200).await;
    waiting.abort();
    drop(stream);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn transfers_are_counted_apart_and_to_their_end(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_MAX_CONCURRENT_TRANSFERS", "1")]).await;
    let file = id(&api.upload("a.txt", "contents").await);
    let download = format!("{FILES}/{file}/download");
    // Its body is not read yet.
    let slow = api.call("GET", &download).start().await.unwrap();
    assert_eq!(slow.headers()["content-length"], "8");
    let refused = api.get(&download).await;
    refused.expect_problem(503, "overloaded");
    api.get(FILES).await.expect(200);
    drop(slow);
    api.eventually(&download, 200).await;
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn uploads_at_once_do_not_exceed_the_number_of_files(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_DOMAIN_MAX_FILES", "5")]).await;
    let uploads = (0..20).map(|n| {
        let call = api.call("POST", FILES);
        call.form(&[("file", Some("a.txt"), &format!("text {n}"))]).send()
    });
    let answers = join_all(uploads).await;
    let (stored, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!((stored.len(), refused.len()), (5, 15));
    for answer in refused {
        answer.expect_problem(409, "files-quota-exceeded");
    }
    assert_eq!((api.count("rag_files").await, api.stored().len()), (5, 5));
    // Each domain has its own.
    let elsewhere = api.call("POST", FILES).domain("tenant-2");
    elsewhere
        .form(&[("file", Some("a"), "x")])
        .send()
        .await
        .expect(201);
    // Deleting makes room.
    let path = format!("{FILES}/{}", id(&stored[0].json()));
    api.call("DELETE", &path).send().await.expect(204);
    api.upload("b.txt", "y").await;
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn uploads_at_once_do_not_exceed_the_bytes(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_DOMAIN_MAX_BYTES", "1000")]).await;
    let contents = "x".repeat(300);
    let uploads = (0..12).map(|_| {
        let call = api.call("POST", FILES);
        call.form(&[("file", Some("a.txt"), &contents)]).send()
    });
    let answers = join_all(uploads).await;
    let (stored, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!((stored.len(), refused.len()), (3, 9));
    for answer in refused {
        answer.expect_problem(413, "bytes-quota-exceeded");
    }
    assert_eq!(api.stored().len(), 3);

    let content = format!("{FILES}/{}/content", id(&stored[0].json()));
    let replace = async |bytes: usize| api.call("PUT", &content).body("y".repeat(bytes)).send().await;
    replace(401).await.expect_problem(413, "bytes-quota-exceeded");
    replace(400).await.expect(200);
    replace(10).await.expect(200);
    assert_eq!(api.stored().len(), 3);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_cannot_fit_is_refused_before_it_is_sent(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_DOMAIN_MAX_BYTES", "1000")]).await;
    let file = id(&api.upload("a.txt", "x").await);
    // Neither of these bodies ever comes.
    let form = api.call("POST", FILES);
    let form = form.header("content-type", "multipart/form-data; boundary=XX");
    let form = form.header("content-length", "1000000").body(endless());
    form.send().await.expect_problem(413, "bytes-quota-exceeded");
    let content = api.call("PUT", &format!("{FILES}/{file}/content"));
    let content = content.header("content-length", "1001").body(endless());
    content.send().await.expect_problem(413, "bytes-quota-exceeded");
    // Without a length it is cut off where the domain is full, long before the limit for files.
    let long = Body::from_stream(futures::stream::iter(
        (0..100).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 100]))),
    ));
    let content = api.call("PUT", &format!("{FILES}/{file}/content")).body(long);
    content.send().await.expect_problem(413, "bytes-quota-exceeded");
    assert_eq!(api.stored().len(), 1);
    let read = api.get(&format!("{FILES}/{file}")).await.expect(200);
    assert_eq!(read["size_bytes"], json!(1));
}
