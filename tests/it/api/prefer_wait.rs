//! Callers that would rather wait for a build than ask for its job.

use std::time::{Duration, Instant};

use rag_emulator::Emulator;
use rag_tests::Stack;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::fixtures::indexes::index_with;

async fn build(stack: &Stack, index: &str, seconds: u32) -> Response {
    stack
        .client
        .request(Method::POST, &format!("/indexes/{index}/build"))
        .header("Prefer", format!("wait={seconds}"))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_built_index_is_the_answer() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    let answer = build(&stack, &index, 20).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["preference-applied"], "wait=20");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        (&body["id"], &body["indexing_status"]),
        (&json!(index), &json!("done")),
        "{body}"
    );
    assert_eq!(body["job"]["state"], "done", "{body}");
    assert_eq!(body["job"]["output"]["indexing_status"], "done", "{body}");
}

#[tokio::test]
async fn those_who_wait_hold_nothing_that_others_need() {
    // Fewer connections than callers.
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(5, 0.0))
        .setting("DATABASE_MAX_CONNECTIONS", "2")
        .start()
        .await;
    let (index, _) = index_with(&stack, 1).await;
    let began = Instant::now();
    let waiting = futures::future::join_all((0..20).map(|_| build(&stack, &index, 5)));
    let others = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let asked = Instant::now();
        stack.client.index(&index).await;
        asked.elapsed()
    };
    let (answers, took) = tokio::join!(waiting, others);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(began.elapsed() >= Duration::from_secs(5));
    for answer in answers {
        assert_eq!(answer.status(), 202, "no worker is there");
        assert_eq!(answer.headers()["preference-applied"], "wait=5");
        assert!(answer.headers().contains_key("location"));
    }
}

#[tokio::test]
async fn the_default_wait_is_for_callers_who_prefer_nothing() {
    let stack = Stack::builder()
        .setting("API_DEFAULT_WAIT_SECONDS", "20")
        .start()
        .await;
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 1).await;
    let post = async |path: String, prefer: &str| {
        let request = stack.client.request(Method::POST, &path);
        request.header("Prefer", prefer).send().await.unwrap()
    };
    let answer = post(format!("/indexes/{index}/build"), "handling=lenient").await;
    assert_eq!(answer.status(), 200);
    assert!(
        !answer.headers().contains_key("preference-applied"),
        "nobody preferred it"
    );
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["indexing_status"], "done", "{body}");

    let answer = post(format!("/indexes/{index}/build"), "respond-async").await;
    assert_eq!(answer.status(), 202, "this caller prefers not to wait");

    let answer = post(format!("/files/{}/provider-uploads/openai", files[0]), "wait=15").await;
    assert_eq!(answer.headers()["preference-applied"], "wait=15");
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        (&body["upload"]["status"], &body["job"]["state"]),
        (&json!("uploaded"), &json!("done")),
        "{body}"
    );
}
