//! What each fault looks like to a client, and whether the request took effect.

use crate::support::{Client, ids, on, read, start};
use rag_emulator::{Action, LedgerQuery, Loss, RetryAfter, When};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Whether an answer looks as ordered.
type Look = fn(&HeaderMap, &Value) -> bool;

fn once(operation: &str) -> When {
    When {
        times: Some(1),
        ..on(operation)
    }
}

fn respond(status: u16, after_effect: bool) -> Action {
    Action::Respond {
        status,
        headers: [].into(),
        body: None,
        text: None,
        after_effect,
    }
}

fn file_count(client: &Client) -> usize {
    client.emulator.control().state().files.len()
}

#[tokio::test]
async fn refusals_look_as_ordered_and_have_no_effect() {
    let client = start().await;
    let rate_limit = |retry_after| Action::RateLimit { retry_after };
    let cases: [(Action, u16, Look); 8] = [
        (rate_limit(Some(RetryAfter::Seconds(7))), 429, |headers, body| {
            headers["retry-after"] == "7" && body["error"]["code"] == "rate_limit_exceeded"
        }),
        (rate_limit(Some(RetryAfter::HttpDate(5))), 429, |headers, _| {
            headers["retry-after"].to_str().unwrap().ends_with(" GMT")
        }),
        (
            rate_limit(Some(RetryAfter::Milliseconds(50))),
            429,
            |headers, _| headers["retry-after-ms"] == "50",
        ),
        (rate_limit(None), 429, |headers, _| {
            !headers.contains_key("retry-after")
        }),
        (Action::Quota, 429, |headers, body| {
            !headers.contains_key("retry-after") && body["error"]["code"] == "insufficient_quota"
        }),
        (respond(503, false), 503, |_, body| {
            body["error"]["type"] == "server_error"
        }),
        (Action::Html { status: 502 }, 502, |headers, body| {
            headers["content-type"].to_str().unwrap().starts_with("text/html") && body.is_string()
        }),
        (
            Action::Grpc {
                status: 503,
                message: "gone".to_owned(),
            },
            503,
            |_, body| body["code"] == 14 && body["message"] == "gone",
        ),
    ];
    for (action, expected, look) in cases {
        client.fault(once("files.create"), action.clone());
        let response = client.upload_request("a.txt", "text").send().await.unwrap();
        let headers = response.headers().clone();
        let (status, body) = read(response).await;
        assert_eq!(status, expected, "{action:?}");
        assert!(
            headers.contains_key("x-request-id") && look(&headers, &body),
            "{action:?} {headers:?} {body}"
        );
        assert_eq!(file_count(&client), 0);
    }
    // Every fault fired once; now all is well.
    client.upload("a.txt", "text").await;
}

#[tokio::test]
async fn lost_answers_leave_the_effect_and_lost_requests_do_not() {
    let client = start().await;
    for how in [Loss::Reset, Loss::Close, Loss::Hang] {
        for (action, effect) in [(Action::LoseRequest { how }, 0), (Action::LoseAnswer { how }, 1)] {
            client.emulator.control().reset();
            client.fault(once("files.create"), action);
            let request = client
                .upload_request("a.txt", "text")
                .timeout(Duration::from_millis(300));
            let error = request.send().await.unwrap_err();
            assert_eq!(error.is_timeout(), how == Loss::Hang, "{how:?}: {error:?}");
            assert_eq!(file_count(&client), effect, "{how:?}");
            let entry = client
                .emulator
                .control()
                .ledger(&LedgerQuery::default())
                .pop()
                .unwrap();
            assert_eq!((entry.status, entry.changed), (None, effect == 1));
            assert_eq!(
                entry.fault.unwrap(),
                if effect == 1 {
                    "lose_answer"
                } else {
                    "lose_request"
                }
            );
        }
    }
    client.fault(once("vector_stores.create"), respond(504, true));
    assert_eq!(client.refused_post("/vector_stores", json!({})).await.0, 504);
    assert_eq!(client.emulator.control().state().stores.len(), 1);
}

#[tokio::test]
async fn answers_break_in_the_middle() {
    let client = start().await;
    client.fault(once("models.list"), Action::ResetMidBody);
    let response = client.request(Method::GET, "/models").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());

    client.fault(once("models.list"), Action::TruncateJson);
    let text = client
        .request(Method::GET, "/models")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err());

    let started = Instant::now();
    client.fault(
        once("models.list"),
        Action::SlowDrip {
            piece_bytes: 20,
            every_ms: 20,
        },
    );
    assert_eq!(client.get("/models").await["object"], "list");
    assert!(
        started.elapsed() > Duration::from_millis(80),
        "{:?}",
        started.elapsed()
    );

    let started = Instant::now();
    client.fault(once("models.list"), Action::Delay { ms: 80 });
    client.get("/models").await;
    assert!(started.elapsed() >= Duration::from_millis(80));
}

/// Asks for the models on a bare socket and reads until the server ends the connection.
async fn read_to_end(client: &Client) -> std::io::Result<String> {
    let address = client.emulator.origin().replace("http://", "");
    let mut socket = TcpStream::connect(address).await?;
    socket
        .write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n\r\n")
        .await?;
    let mut answer = String::new();
    let read = socket.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .expect("the server should end it")?;
    Ok(answer)
}

#[tokio::test]
async fn a_connection_can_close_without_having_said_so() {
    let client = start().await;
    client.fault(once("models.list"), Action::CloseAfterAnswer);
    let answer = read_to_end(&client).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_reset_is_no_orderly_close() {
    let client = start().await;
    client.fault(once("models.list"), Action::LoseAnswer { how: Loss::Close });
    assert_eq!(read_to_end(&client).await.unwrap(), "");
    client.fault(once("models.list"), Action::LoseAnswer { how: Loss::Reset });
    assert_eq!(
        read_to_end(&client).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    client.fault(once("models.list"), Action::ResetMidBody);
    assert_eq!(
        read_to_end(&client).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn lists_and_objects_can_lie() {
    let client = start().await;
    let mut files = Vec::new();
    for n in 0..3 {
        files.push(client.upload(&format!("{n}.txt"), "text").await);
    }
    client.fault(once("files.list"), Action::EmptyPage { has_more: true });
    let page = client.get("/files").await;
    assert_eq!((ids(&page).len(), &page["has_more"]), (0, &json!(true)));

    client.fault(on("files.list"), Action::RepeatCursor);
    let first = client.get("/files?order=asc&limit=2").await;
    let next = client
        .get(&format!("/files?order=asc&limit=2&after={}", files[1]))
        .await;
    assert_eq!((ids(&first), &first), (files[..2].to_vec(), &next));

    let mut fields = Map::new();
    fields.insert("object".to_owned(), json!("vector_store"));
    fields.insert("bytes".to_owned(), Value::Null);
    client.fault(once("files.retrieve"), Action::MergeJson { fields });
    let shown = client.get(&format!("/files/{}", files[0])).await;
    assert_eq!(
        (&shown["object"], shown.get("bytes")),
        (&json!("vector_store"), None)
    );
}

#[tokio::test]
async fn new_objects_can_be_hidden_for_a_while() {
    let client = start().await;
    client.fault(on("files.retrieve"), Action::HideNew { seconds: 0.3 });
    let path = format!("/files/{}", client.upload("a.txt", "text").await);
    assert_eq!(client.refused(Method::GET, &path, None).await.0, 404);
    assert_eq!(ids(&client.get("/files").await).len(), 1);
    tokio::time::sleep(Duration::from_millis(310)).await;
    client.get(&path).await;
}
