//! Waiting is not failing: rate limits without a hint, an account that is exhausted, and what providers say about it.

use std::collections::BTreeMap;
use std::time::Duration;

use rag_emulator::{Action, Effect, Rule, When};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::build::index_with;
use crate::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(2);

fn on(operation: &str, when: When, then: Action) -> Rule {
    Rule {
        when: When {
            operation: Some(operation.to_owned()),
            ..when
        },
        then,
    }
}

fn times(times: u64) -> When {
    When {
        times: Some(times),
        ..When::default()
    }
}

fn respond(status: u16, body: Value) -> Action {
    Action::Respond {
        status,
        headers: BTreeMap::default(),
        body: Some(body),
        text: None,
        after_effect: false,
    }
}

#[tokio::test]
async fn rate_limits_without_a_hint_on_attaching_spend_no_attempt() {
    let stack = Stack::builder().setting("BUILD_MAX_ATTEMPTS", "2").start().await;
    let limited = Action::RateLimit { retry_after: None };
    stack
        .control()
        .add_fault(on("vector_stores.file_batches.create", times(5), limited))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 3).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_no_orphans(&stack).await;
    let streak: i64 = sqlx::query_scalar(
        "SELECT CAST(SUM(streak) AS SIGNED) FROM rag_provider_backoffs WHERE provider_id = 'openai'",
    )
    .fetch_one(&stack.database.pool)
    .await
    .unwrap();
    assert!((1..5).contains(&streak), "a success brings it down: {streak}");
}

#[tokio::test]
async fn rate_limits_without_a_hint_on_every_sixth_upload_spend_no_attempt() {
    let stack = Stack::builder().setting("BUILD_MAX_ATTEMPTS", "2").start().await;
    let sixth = When {
        every: Some(6),
        ..When::default()
    };
    let limited = Action::RateLimit { retry_after: None };
    stack
        .control()
        .add_fault(on("files.create", sixth, limited))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 70).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 70);
    assert_no_orphans(&stack).await;
}

/// One that gets on between real failures is not given up, however many there are.
#[tokio::test]
async fn attempts_come_back_with_progress() {
    let stack = Stack::builder()
        .setting("BUILD_MAX_ATTEMPTS", "2")
        .setting("BUILD_UPLOAD_CONCURRENCY", "1")
        .start()
        .await;
    let second = When {
        every: Some(2),
        ..When::default()
    };
    let broken = respond(500, json!({"error": {"message": "boom"}}));
    stack
        .control()
        .add_fault(on("files.create", second, broken))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 6).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_no_orphans(&stack).await;
}

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

fn fired(stack: &Stack) -> u64 {
    stack.control().faults().iter().map(|rule| rule.fired).sum()
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

    // One scout for the fleet, with one file.
    make_due(&stack).await;
    eventually("the scout", LIMIT, || async {
        (fired(&stack) > sent).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fired(&stack), sent + 1, "{name}: one request");

    // It ends by itself when a scout succeeds.
    stack.control().clear_faults();
    make_due(&stack).await;
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

#[tokio::test]
async fn the_providers_reason_arrives_in_whatever_form() {
    for (body, reason) in [
        (
            json!({"detail": [{"loc": ["body", "name"], "msg": "the name is bad"}]}),
            "body.name: the name is bad",
        ),
        (
            json!({"error": {"detail": {"errors": [{"msg": "deep down"}]}}}),
            "deep down",
        ),
    ] {
        let stack = Stack::start().await;
        stack
            .control()
            .add_fault(on("vector_stores.create", When::default(), respond(422, body)))
            .unwrap();
        let _worker = stack.worker("one");
        let (index, _) = index_with(&stack, 1).await;
        let job = stack
            .client
            .finished(&stack.client.build(&index).await, LIMIT)
            .await;
        assert!(job["last_error"].as_str().unwrap().contains(reason), "{job}");
        let row = stack.client.index(&index).await;
        assert!(row["last_error"].as_str().unwrap().contains(reason), "{row}");
    }
}

#[tokio::test]
async fn an_id_that_fits_no_column_is_refused_in_plain_words() {
    for (operation, what) in [
        ("vector_stores.create", "vector_store"),
        ("files.create", "file"),
        ("vector_stores.file_batches.create", "batch"),
    ] {
        let stack = Stack::builder().setting("BUILD_MAX_ATTEMPTS", "1").start().await;
        let fields = json!({"id": "x".repeat(256)}).as_object().unwrap().clone();
        stack
            .control()
            .add_fault(on(operation, When::default(), Action::MergeJson { fields }))
            .unwrap();
        let _worker = stack.worker("one");
        let (index, _) = index_with(&stack, 2).await;
        let job = stack
            .client
            .finished(&stack.client.build(&index).await, LIMIT)
            .await;
        let shown = format!("{job}{}", stack.client.index(&index).await);
        assert!(shown.contains("256 characters"), "{what}: {shown}");
        for sql in ["Data too long", "the database failed"] {
            assert!(!shown.contains(sql), "{what}: {shown}");
        }
    }
}
