//! Providers that fail, and builds that have to live with it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use rag_emulator::{Action, Effect, Loss, RetryAfter, Rule, When};
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::json;

use crate::fixtures::indexes::{index_with, prose};
use crate::fixtures::jobs::retry_now;
use crate::fixtures::ledger::{assert_no_orphans, effects, spare_copies};

const LIMIT: Duration = Duration::from_mins(1);

fn on(operation: &str, times: u64, then: Action) -> Rule {
    Rule {
        when: When {
            operation: Some(operation.to_owned()),
            times: Some(times),
            ..When::default()
        },
        then,
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_indexed_fails_the_index_until_it_is_mended() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 3).await;
    let broken = client.upload("broken.md", &[0xff, 0xfe, 0x00, 0x01], None).await;
    client.link(&index, &broken).await;

    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    let row = client.index(&index).await;
    assert_eq!(row["indexing_status"], "failed");
    assert!(row["last_error"].as_str().unwrap().contains("broken.md"), "{row}");
    for item in client.provider_files(&index).await {
        let is_broken = item["file"]["id"] == json!(broken);
        assert_eq!(
            item["status"],
            if is_broken { "failed" } else { "completed" },
            "{item}"
        );
        assert_eq!(item["last_error"].is_string(), is_broken, "{item}");
    }

    client.replace(&broken, &prose("mended", 40)).await;
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(client.index(&index).await["last_error"], json!(null));
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        files.len() + 2,
        "only the mended file went up again"
    );
    assert_eq!(effects(&stack, Effect::Attached).len(), files.len() + 2);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn lost_answers_and_server_errors_leave_spare_copies_and_nothing_twice() {
    let stack = Stack::start().await;
    for rule in [
        on("vector_stores.create", 1, Action::LoseAnswer { how: Loss::Close }),
        on("files.create", 2, Action::LoseAnswer { how: Loss::Reset }),
        on(
            "vector_stores.file_batches.create",
            1,
            Action::LoseAnswer { how: Loss::Close },
        ),
        on(
            "vector_stores.files.list",
            1,
            Action::Respond {
                status: 503,
                headers: BTreeMap::default(),
                body: None,
                text: None,
                after_effect: false,
            },
        ),
    ] {
        stack.control().add_fault(rule).unwrap();
    }
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 6).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 8);
    assert_eq!(
        spare_copies(&stack).await.len(),
        2,
        "of the answers that were lost"
    );
    assert_eq!(effects(&stack, Effect::Attached).len(), 6);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_and_spends_no_attempt() {
    let stack = Stack::start().await;
    let limited = Action::RateLimit {
        retry_after: Some(RetryAfter::Seconds(1)),
    };
    stack.control().add_fault(on("files.create", 3, limited)).unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 4).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn the_status_of_an_index_tells_until_when_the_provider_holds_its_build_back() {
    let stack = Stack::start().await;
    let limited = Action::RateLimit {
        retry_after: Some(RetryAfter::Seconds(5)),
    };
    stack
        .control()
        .add_fault(on("vector_stores.create", 1, limited))
        .unwrap();
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    let asked = chrono::Utc::now();
    let job = client.build(&index).await;

    let status = eventually("a visible reason", LIMIT, || async {
        let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
        status["job"]["waiting"]["until"].is_string().then_some(status)
    })
    .await;
    let waiting = &status["job"]["waiting"];
    assert_eq!(status["job"]["id"], json!(job), "{status}");
    assert!(waiting["reason"].as_str().unwrap().contains("rate"), "{status}");
    let until: chrono::DateTime<chrono::Utc> = waiting["until"].as_str().unwrap().parse().unwrap();
    let (earliest, latest) = (
        asked + TimeDelta::seconds(4),
        chrono::Utc::now() + TimeDelta::seconds(12),
    );
    assert!(
        earliest < until && until < latest,
        "{earliest}, {latest}: {status}"
    );
    client.finished(&job, LIMIT).await;
    let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
    assert_eq!(
        (&status["job"], &status["indexing_status"]),
        (&json!(null), &json!("done"))
    );
}

#[tokio::test]
async fn a_build_waits_for_a_switched_off_provider_and_says_so() {
    let stack = Stack::start().await;
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    let job = client.build(&index).await;
    let connection = "/admin/providers/connections/openai";
    stack
        .admin
        .patch(connection, &json!({"is_enabled": false}))
        .await
        .expect(200);
    let _worker = stack.worker("worker");
    let waiting = eventually("a visible reason", LIMIT, || async {
        let job = client.job(&job).await;
        job.to_string().contains("switched off").then_some(job)
    })
    .await;
    assert_eq!(waiting["attempts"], 0, "{waiting}");
    let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
    let reason = status["job"]["waiting"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("switched off"), "{status}");
    assert_eq!(
        client.index(&index).await["indexing_status"],
        "not_indexed",
        "nothing has begun (R-4.12)"
    );
    assert!(effects(&stack, Effect::StoreCreated).is_empty());

    stack
        .admin
        .patch(
            "/admin/providers/connections/openai",
            &json!({"is_enabled": true}),
        )
        .await
        .expect(200);
    retry_now(client, &job).await;
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
}

#[tokio::test]
async fn a_store_that_is_gone_fails_the_build_until_it_is_asked_to_make_another() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    let store = client.index(&index).await["external_id"]
        .as_str()
        .unwrap()
        .to_owned();
    // Older than the time in which a store may merely not be visible yet.
    for sql in [
        "UPDATE rag_indexes SET updated_at = updated_at - INTERVAL 1 HOUR",
        "UPDATE rag_provider_ownership SET resolved_at = resolved_at - INTERVAL 1 HOUR",
    ] {
        sqlx::query(sql).execute(&stack.database.pool).await.unwrap();
    }
    let url = format!("{}/vector_stores/{store}", stack.emulator.url());
    reqwest::Client::new()
        .delete(url)
        .bearer_auth(PROVIDER_KEY)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();

    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["state"], "failed", "{job}");
    let row = client.index(&index).await;
    assert_eq!(row["indexing_status"], "failed");
    assert!(
        row["last_error"].as_str().unwrap().contains("recreate=true"),
        "{row}"
    );

    let answer = client
        .post(&format!("/indexes/{index}/build?recreate=true"), &json!({}))
        .await
        .expect(202);
    let job = client.finished(answer["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn secrets_stay_secret() {
    let stack = Stack::builder().setting("RUST_LOG", "debug").start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    stack.control().add_fault(on("vector_stores.retrieve", 3, Action::Respond {
        status: 401,
        headers: BTreeMap::default(),
        body: Some(json!({"error": {"message": format!("Incorrect API key provided: {PROVIDER_KEY}"), "type": "invalid_request_error"}})),
        text: None,
        after_effect: false,
    }))
    .unwrap();
    let job = stack.client.build(&index).await;
    eventually("the refusal", LIMIT, || async {
        stack
            .client
            .job(&job)
            .await
            .to_string()
            .contains("unauthorized")
            .then_some(())
    })
    .await;
    let shown = [
        stack.client.job(&job).await.to_string(),
        stack.client.index(&index).await.to_string(),
        stack
            .admin
            .get("/admin/providers/connections")
            .await
            .expect(200)
            .to_string(),
        stack.logs(),
    ];
    for text in shown {
        assert!(!text.contains(PROVIDER_KEY), "a secret came to light");
    }
    let dump: Vec<String> =
        sqlx::query_scalar("SELECT CAST(credentials_enc AS CHAR) FROM rag_provider_connections")
            .fetch_all(&stack.database.pool)
            .await
            .unwrap();
    assert!(!dump.is_empty() && dump.iter().all(|envelope| !envelope.contains(PROVIDER_KEY)));
}
