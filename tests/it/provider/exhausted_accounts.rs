//! An account that is exhausted is one state of its connection: visible, tried by one request now and then, and over by itself.

use std::time::Duration;

use rag_emulator::{Action, When};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::faults::fired;
use crate::fixtures::indexes::index_with;
use crate::fixtures::jobs::retry_now;
use crate::fixtures::ledger::assert_no_orphans;
use crate::provider::rate_limits::{LIMIT, on, respond};

async fn connection(stack: &Stack) -> Value {
    stack
        .admin
        .get("/admin/providers/connections/openai")
        .await
        .expect(200)
}

/// The next try of an exhausted connection is due now.
async fn make_due(stack: &Stack) {
    sqlx::query(
        "UPDATE rag_provider_connections SET blocked_next_try_at = UTC_TIMESTAMP(6), updated_at = updated_at",
    )
    .execute(&stack.database.pool)
    .await
    .unwrap();
}

async fn is_exhausted(name: &str, refusal: Action, state: &str) {
    let stack = Stack::start().await;
    stack
        .control()
        .add_fault(on("files.create", When::default(), refusal))
        .unwrap();
    let _workers = [stack.worker("one"), stack.worker("two")];
    let client = &stack.client;
    let (index, _) = index_with(&stack, 12).await;
    let job = client.build(&index).await;
    let waiting = eventually("a visible state", LIMIT, || async {
        let row = connection(&stack).await;
        (row["state"]["kind"] == json!(state)).then_some(row)
    })
    .await;
    assert!(waiting["state"]["reason"].is_string(), "{name}: {waiting}");
    assert!(waiting["state"]["since"].is_string(), "{name}: {waiting}");
    assert!(waiting["state"]["next_try_at"].is_string(), "{name}: {waiting}");
    let status = eventually("a reason in the status", LIMIT, || async {
        let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
        let reason = status["job"]["waiting"]["reason"].as_str().unwrap_or_default();
        reason.contains(state).then_some(status)
    })
    .await;
    assert_eq!(status["job"]["attempts"], json!(0), "{name}: {status}");
    // At most what was on the wire at once, and then nothing.
    let sent = fired(&stack);
    assert!(sent <= 4, "{name}: {sent} files were sent");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(fired(&stack), sent, "{name}: nothing is sent meanwhile");
    let health = stack
        .admin
        .get("/admin/providers/openai/health")
        .await
        .expect(200);
    assert_eq!(health["state"]["kind"], json!(state), "{name}: {health}");

    // One try for the whole fleet, with one file.
    make_due(&stack).await;
    retry_now(client, &job).await;
    eventually("the try", LIMIT, || async {
        (fired(&stack) > sent).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fired(&stack), sent + 1, "{name}: one request");

    // It ends by itself when a try succeeds.
    stack.control().clear_faults();
    make_due(&stack).await;
    retry_now(client, &job).await;
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{name}: {job}");
    assert_eq!(job["attempts"], 0, "{name}: {job}");
    assert_eq!(connection(&stack).await["state"], json!(null));
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn full_storage_is_one_state_of_the_connection() {
    let full = json!({"error": {"message": "Storage quota exceeded: the project's storage is full.", "type": "invalid_request_error"}});
    is_exhausted("400", respond(400, full), "storage_full").await;
}

#[tokio::test]
async fn a_quotas_end_in_a_message_is_one_state_of_the_connection() {
    let end = json!({"error": {"message": "litellm.RateLimitError: OpenAIException - Error code: 429 - {'error': {'code': 'insufficient_quota'}}", "type": "throttling_error", "code": "429"}});
    is_exhausted("429", respond(429, end), "quota_exceeded").await;
}

#[tokio::test]
async fn a_changed_connection_is_tried_at_once() {
    let stack = Stack::start().await;
    stack
        .control()
        .add_fault(on("files.create", When::default(), Action::Quota))
        .unwrap();
    let _worker = stack.worker("one");
    let (index, _) = index_with(&stack, 2).await;
    let job = stack.client.build(&index).await;
    eventually("the state", LIMIT, || async {
        connection(&stack).await["state"].is_object().then_some(())
    })
    .await;
    stack.control().clear_faults();
    stack.connect("openai").await;
    assert_eq!(connection(&stack).await["state"], json!(null));
    retry_now(&stack.client, &job).await;
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
}

/// A file's own name is no reason to hold a whole account back.
#[tokio::test]
async fn a_file_whose_name_speaks_of_quotas_only_fails_itself() {
    let stack = Stack::start().await;
    let echo = json!({"error": {"message": "Invalid file 'storage quota exceeded.md': the format is not supported", "type": "invalid_request_error", "param": "file"}});
    let named = When {
        filename: Some("quota".to_owned()),
        ..When::default()
    };
    stack
        .control()
        .add_fault(on("files.create", named, respond(400, echo)))
        .unwrap();
    let _worker = stack.worker("one");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    let file = client
        .upload("storage quota exceeded.md", b"some text", None)
        .await;
    client.link(&index, &file).await;
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    assert_eq!(connection(&stack).await["state"], json!(null));
}
