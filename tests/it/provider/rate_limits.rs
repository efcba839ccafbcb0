//! Waiting is not failing: rate limits without a hint, and what providers say when they refuse.

use std::collections::BTreeMap;
use std::time::Duration;

use rag_emulator::{Action, Effect, Rule, When};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::faults::fired;
use crate::fixtures::indexes::index_with;
use crate::fixtures::ledger::{assert_no_orphans, effects};
use crate::fixtures::rows::execute;

pub(crate) const LIMIT: Duration = Duration::from_mins(2);

pub(crate) fn on(operation: &str, when: When, then: Action) -> Rule {
    Rule {
        when: When {
            operation: Some(operation.to_owned()),
            ..when
        },
        then,
    }
}

pub(crate) fn times(times: u64) -> When {
    When {
        times: Some(times),
        ..When::default()
    }
}

pub(crate) fn respond(status: u16, body: Value) -> Action {
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

/// No pause lasts as long as it was meant to: that each is made is enough here.
async fn hurry(stack: &Stack) {
    execute(stack, "UPDATE rag_provider_backoffs SET until_us = 0").await;
    execute(
        stack,
        "UPDATE queue_jobs SET order_us = 0 WHERE state = 'scheduled'",
    )
    .await;
}

/// Waiting is not failing for whatever kind of job, and whatever call of it is limited.
#[tokio::test]
async fn no_job_spends_an_attempt_on_a_rate_limit() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 2).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    let lone = client.upload("lone.md", b"some text", None).await;
    client.unlink(&index, &files[0]).await;
    let provider = "/admin/providers/openai";
    let post = |path: String| ("POST", path);
    let delete = |path: String| ("DELETE", path);
    for (operation, (method, path)) in [
        (
            "vector_stores.retrieve",
            post(format!("/indexes/{index}/sync?force=true")),
        ),
        (
            "vector_stores.files.list",
            post(format!("/indexes/{index}/sync?force=true")),
        ),
        ("vector_stores.list", post(format!("{provider}/sync"))),
        ("vector_stores.list", post(format!("{provider}/orphans"))),
        ("files.list", post(format!("{provider}/orphans"))),
        (
            "files.create",
            post(format!("/files/{lone}/provider-uploads/openai")),
        ),
        ("files.delete", delete(format!("/files/{lone}"))),
        (
            "vector_stores.files.delete",
            post(format!("/indexes/{index}/build")),
        ),
        ("vector_stores.delete", delete(format!("/indexes/{index}"))),
    ] {
        // More than what a single call tries by itself.
        let limited = Action::RateLimit { retry_after: None };
        stack.control().clear_faults();
        stack
            .control()
            .add_fault(on(operation, times(4), limited))
            .unwrap();
        let caller = if path.starts_with("/admin") {
            &stack.admin
        } else {
            client
        };
        let answer = match method {
            "DELETE" => caller.delete(&path).await,
            _ => caller.post(&path, &json!({})).await,
        };
        let id = answer.expect(202)["id"].as_str().unwrap().to_owned();
        let (state, attempts) = eventually("the end of the job", LIMIT, || async {
            hurry(&stack).await;
            let row: (String, u32) = sqlx::query_as(
                "SELECT CAST(state AS CHAR), attempts FROM queue_jobs WHERE id = UNHEX(REPLACE(?, '-', ''))",
            )
            .bind(&id)
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
            ["done", "failed", "cancelled"]
                .contains(&row.0.as_str())
                .then_some(row)
        })
        .await;
        assert_eq!((state.as_str(), attempts), ("done", 0), "{operation} of {path}");
        let met = fired(&stack);
        assert_eq!(met, 4, "{operation} of {path}: the limit was met");
    }
    let spent: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM queue_jobs WHERE attempts > 0 OR history IS NOT NULL")
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
    assert_eq!(spent, 0, "not by any job that these have started");
}
