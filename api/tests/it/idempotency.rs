//! The same request twice, ten times, fifty times at once: created once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::harness::{Answer, Api, id};

const KEY: &str = "idempotency-key";

async fn make_index(api: &Api, key: &str, name: &str) -> Answer {
    let body = json!({"name": name, "provider_type": "openai"});
    let call = api.call("POST", "/api/v1/indexes").header(KEY, key);
    call.json(&body).send().await
}

async fn upload(api: &Api, key: &str, boundary: &str, contents: &str) -> Answer {
    let form = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n{contents}\r\n--{boundary}--\r\n"
    );
    api.call("POST", "/api/v1/files")
        .header(KEY, key)
        .header(
            "content-type",
            &format!("multipart/form-data; boundary={boundary}"),
        )
        .body(form)
        .send()
        .await
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_retry_gets_the_first_answer_and_creates_nothing(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let first = make_index(&api, "a", "Contracts").await;
    let body = first.expect(201);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = make_index(&api, "a", "Contracts").await;
    assert_eq!(again.expect(201), body);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    for name in ["location", "content-type"] {
        assert_eq!(again.headers[name], first.headers[name]);
    }
    assert_ne!(again.headers["x-request-id"], first.headers["x-request-id"]);

    let other = make_index(&api, "a", "Letters").await;
    other.expect_problem(422, "validation-failed");
    assert_eq!(other.fields(), ["Idempotency-Key"]);
    upload(&api, "a", "XX", "abc")
        .await
        .expect_problem(422, "validation-failed");
    assert_eq!(api.count("rag_indexes").await, 1);
    assert_eq!(api.count("rag_files").await, 0);

    assert_ne!(make_index(&api, "b", "Contracts").await.expect(201), body);
    let request = json!({"name": "Contracts", "provider_type": "openai"});
    let stranger = api.call("POST", "/api/v1/indexes").domain("tenant-2");
    let stranger = stranger.header(KEY, "a").json(&request).send().await;
    assert_ne!(stranger.expect(201)["id"], body["id"], "keys are per domain");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_upload_is_the_same_whatever_its_boundary(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let first = upload(&api, "a", "XX", "some text").await.expect(201);
    let again = upload(&api, "a", "another-boundary", "some text").await;
    assert_eq!(again.expect(201), first);
    upload(&api, "a", "XX", "another text")
        .await
        .expect_problem(422, "validation-failed");
    assert_eq!(api.count("rag_files").await, 1);
    assert_eq!(api.stored().len(), 1);
    // The limits hold for retries, too, which nobody stores.
    upload(&api, "a", "XX", &"x".repeat(400_000))
        .await
        .expect_problem(413, "content-too-large");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_created_nothing_may_be_sent_again(pool: MySqlPool) {
    let api = Api::new(pool).await;
    make_index(&api, "a", "")
        .await
        .expect_problem(422, "validation-failed");
    make_index(&api, "a", "Contracts").await.expect(201);
    for key in ["", &"k".repeat(256), "\u{e9}"] {
        make_index(&api, key, "Contracts")
            .await
            .expect_problem(400, "malformed-request");
    }
    make_index(&api, &"k".repeat(255), "Contracts").await.expect(201);
    let call = api.call("POST", "/api/v1/indexes").header(KEY, "z");
    call.without("x-domain-id")
        .json(&json!({}))
        .send()
        .await
        .expect_problem(400, "invalid-domain");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn fifty_at_once_are_one(pool: MySqlPool) {
    let api = Arc::new(Api::new(pool).await);
    api.make_connection().await;
    let index = id(&make_index(&api, "index", "Contracts").await.expect(201));
    let build = format!("/api/v1/indexes/{index}/build");
    let calls = (0..50).map(|_| {
        let (api, build) = (Arc::clone(&api), build.clone());
        tokio::spawn(async move {
            let index = make_index(&api, "many", "Letters").await.expect(201);
            let file = upload(&api, "file", "XX", "text").await.expect(201);
            let job = api
                .call("POST", &build)
                .header(KEY, "build")
                .send()
                .await
                .expect(202);
            [index, file, job]
        })
    });
    let mut answers: Vec<[Value; 3]> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(api.count("rag_indexes").await, 2);
    assert_eq!(api.count("rag_files").await, 1);
    assert_eq!(api.count("queue_jobs").await, 1);

    // Even when the build is over: a late retry does not start another.
    let job = id(&answers[0][2]);
    api.queue.cancel(job.parse().unwrap()).await.unwrap();
    let late = api
        .call("POST", &build)
        .header(KEY, "build")
        .send()
        .await
        .expect(202);
    assert_eq!(id(&late), job);
    assert_eq!(api.count("queue_jobs").await, 1);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_key_ends_after_a_day_and_one_that_was_abandoned_sooner(pool: MySqlPool) {
    let api = Arc::new(Api::new(pool).await);
    let first = make_index(&api, "a", "Contracts").await.expect(201);
    age(&api, "created_at", "25 HOUR").await;
    let second = make_index(&api, "a", "Letters").await.expect(201);
    assert_ne!(id(&first), id(&second));
    assert_eq!(
        make_index(&api, "a", "Letters").await.expect(201),
        second,
        "and counts anew"
    );

    // As a process that was killed leaves it.
    sqlx::query("UPDATE rag_idempotency_keys SET status = NULL, seen_at = UTC_TIMESTAMP(6)")
        .execute(&api.db)
        .await
        .unwrap();
    let waiting = Arc::clone(&api);
    let waiting = tokio::spawn(async move { make_index(&waiting, "a", "Plans").await.expect(201) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "the other one may still be at it");
    age(&api, "seen_at", "31 SECOND").await;
    assert_eq!(waiting.await.unwrap()["name"], "Plans");

    age(&api, "created_at", "25 HOUR").await;
    let mut connection = api.db.acquire().await.unwrap();
    assert_eq!(rag_db::idempotency::prune(&mut connection).await.unwrap(), 1);
    assert_eq!(api.count("rag_idempotency_keys").await, 0);
}

async fn age(api: &Api, column: &str, by: &str) {
    let sql = format!("UPDATE rag_idempotency_keys SET {column} = {column} - INTERVAL {by}");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(&api.db)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_request_whose_key_was_taken_over_creates_nothing(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<bytes::Bytes, std::io::Error>>();
    let upload = api
        .call("POST", "/api/v1/files")
        .header(KEY, "a")
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(axum::body::Body::from_stream(receiver))
        .start();
    let send = |text: &'static str| sender.unbounded_send(Ok(bytes::Bytes::from_static(text.as_bytes())));
    send("--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nslow").unwrap();
    while api.stored().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Its process was out of touch for so long that a retry got the key.
    let sql = "UPDATE rag_idempotency_keys SET owner = REPEAT('x', 16)";
    let taken = sqlx::query(sql).execute(&api.db).await.unwrap();
    assert_eq!(taken.rows_affected(), 1);
    send("\r\n--XX--\r\n").unwrap();
    drop(sender);
    assert_eq!(upload.await.unwrap().status(), 409);
    assert_eq!((api.count("rag_files").await, api.stored().len()), (0, 0));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn answers_are_kept_with_what_they_tell_of(pool: MySqlPool) {
    let api = Api::new(pool).await;
    // No answer can be kept from now on: so nothing may be created, either.
    sqlx::raw_sql(
        "CREATE TRIGGER no_answers BEFORE UPDATE ON rag_idempotency_keys FOR EACH ROW \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
    )
    .execute(&api.db)
    .await
    .unwrap();
    make_index(&api, "a", "Contracts")
        .await
        .expect_problem(500, "internal-error");
    upload(&api, "b", "XX", "abc")
        .await
        .expect_problem(500, "internal-error");
    assert_eq!(
        (api.count("rag_indexes").await, api.count("rag_files").await),
        (0, 0)
    );
    assert_eq!(api.stored().len(), 0);
}
