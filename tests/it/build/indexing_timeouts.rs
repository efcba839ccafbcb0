//! Files that a provider never finishes, strategies that it does not take, and batches that are cancelled.

use std::time::{Duration, Instant};

use rag_emulator::{Action, Effect, Emulator, Loss, Rule};
use rag_tests::{Stack, StackBuilder, eventually};
use serde_json::{Value, json};

use crate::fixtures::faults::hold_indexing;
use crate::fixtures::indexes::{fixed, index_with, prose};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);

fn impatient() -> StackBuilder {
    Stack::builder()
        .setting("BUILD_INDEXING_TIMEOUT_SECONDS", "2")
        .setting("BUILD_REATTACH_TIMES", "2")
}

#[tokio::test]
async fn a_file_that_is_stuck_is_put_in_again_and_makes_it() {
    let stack = impatient().start().await;
    stack
        .control()
        .add_fault(Rule::on_file("page-1", Action::Stuck).times(2))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 3).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        files.len(),
        "no second upload"
    );
    assert_eq!(effects(&stack, Effect::Detached).len(), 2);
    assert_eq!(effects(&stack, Effect::Attached).len(), files.len() + 2);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_file_that_stays_stuck_fails_by_name_and_the_next_build_tries_it_anew() {
    let stack = impatient().start().await;
    stack
        .control()
        .add_fault(Rule::on_file("page-1", Action::Stuck))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 3).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    let row = stack.client.index(&index).await;
    let error = row["last_error"].as_str().unwrap();
    assert!(
        error.contains("page-1.md") && error.contains("(indexing_timeout)") && error.contains("3 tries"),
        "{row}"
    );
    for item in stack.client.provider_files(&index).await {
        let is_stuck = item["file"]["id"] == json!(files[1]);
        let wanted = if is_stuck { "failed" } else { "completed" };
        assert_eq!(item["status"], wanted, "{item}");
        let code = &item["attachments"][0]["error_code"];
        assert_eq!(*code == json!("indexing_timeout"), is_stuck, "{item}");
    }
    assert_eq!(effects(&stack, Effect::Detached).len(), 2, "put in again twice");

    stack.control().clear_faults();
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_build_has_a_deadline_whatever_its_files_have_left() {
    let stack = impatient()
        .setting("BUILD_INDEXING_TIMEOUT_SECONDS", "3600")
        .setting("BUILD_DEADLINE_SECONDS", "3")
        .start()
        .await;
    stack
        .control()
        .add_fault(Rule::on_file("page-0", Action::Stuck))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    let error = job["output"]["last_error"].as_str().unwrap();
    assert!(
        error.starts_with("1 of 2 files failed: page-0.md") && error.contains("ran out of time"),
        "{job}"
    );
    assert_eq!(effects(&stack, Effect::Detached).len(), 0);
}

async fn proof(stack: &Stack, index: &str, file: &str) -> Value {
    let items = stack.client.provider_files(index).await;
    let item = items.iter().find(|item| item["file"]["id"] == json!(file));
    item.unwrap()["chunking"].clone()
}

#[tokio::test]
async fn what_became_of_each_strategy_is_told() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let index = client.create_index("handbook", "openai").await;
    let fine = client
        .upload("fine.md", &prose("a", 500), Some(fixed(100, 50)))
        .await;
    let auto = client
        .upload("auto.md", &prose("b", 500), Some(json!({"type": "auto"})))
        .await;
    let none = client.upload("none.md", &prose("c", 500), None).await;
    for file in [&fine, &auto, &none] {
        client.link(&index, file).await;
    }
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    let chunking = &job["output"]["chunking"];
    assert_eq!(chunking["differs"], 0, "{job}");
    let known = chunking["matches"].as_u64().unwrap();
    assert!(
        known >= 1 && known + chunking["unknown"].as_u64().unwrap() == 3,
        "{job}"
    );
    let of_fine = proof(&stack, &index, &fine).await;
    assert_eq!(of_fine["matches"], true, "{of_fine}");
    assert_eq!(
        (&of_fine["asked"], &of_fine["reported"]),
        (&fixed(100, 50), &fixed(100, 50))
    );
    assert_ne!(proof(&stack, &index, &auto).await["matches"], false);
    assert_eq!(proof(&stack, &index, &none).await["matches"], Value::Null);

    // A provider that took another one is found out; one that no longer knows is not accused.
    for (reported, matches) in [
        (fixed(800, 400), json!(false)),
        (json!({"type": "other"}), Value::Null),
    ] {
        sqlx::query("UPDATE rag_index_attachments SET reported_strategy = ?, strategy_applied = NULL WHERE local_file_id = ?")
            .bind(reported.to_string())
            .bind(&fine)
            .execute(&stack.database.pool)
            .await
            .unwrap();
        let of_fine = proof(&stack, &index, &fine).await;
        assert_eq!(of_fine["matches"], matches, "{of_fine}");
        let job = client.finished(&client.build(&index).await, LIMIT).await;
        let differs = &job["output"]["chunking"]["differences"];
        let named: Vec<_> = differs
            .as_array()
            .unwrap()
            .iter()
            .map(|d| &d["file_name"])
            .collect();
        let wanted = if matches == json!(false) {
            vec!["fine.md"]
        } else {
            vec![]
        };
        assert_eq!(named, wanted, "{job}");
    }
}

/// Twenty files that take their time, in one batch.
async fn indexing() -> (Stack, String, String) {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(20_000, 0.0))
        .setting("BUILD_POLL_MAX_MS", "20000")
        .setting("BUILD_POLL_MIN_MS", "20000")
        .start()
        .await;
    let (index, _) = index_with(&stack, 5).await;
    let job = stack.client.build(&index).await;
    (stack, index, job)
}

#[tokio::test]
async fn a_build_that_is_cancelled_while_it_waits_cancels_the_providers_batch() {
    let (stack, index, job) = indexing().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    eventually("the wait for the provider", LIMIT, || async {
        (client.job(&job).await["state"] == "scheduled").then_some(())
    })
    .await;
    let asked = Instant::now();
    client
        .post(&format!("/jobs/{job}/cancel"), &json!({}))
        .await
        .expect(200);
    let row = client.index(&index).await;
    let error = row["last_error"].as_str().unwrap();
    assert!(
        error.contains("5 files attached (0 indexed, 5 being indexed)"),
        "what stays is told: {row}"
    );
    eventually("the end of the batch", LIMIT, || async {
        (effects(&stack, Effect::BatchCancelled).len() == 1).then_some(())
    })
    .await;
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    eventually("rows that say so", LIMIT, || async {
        let items = client.provider_files(&index).await;
        items
            .iter()
            .all(|item| item["status"] == "cancelled")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_cancelled_batch_left_is_put_in_again_by_the_next_build() {
    let stack = Stack::start().await;
    stack.control().add_fault(hold_indexing("page", "build")).unwrap();
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 5).await;
    let job = stack.client.build(&index).await;
    eventually("attachments", LIMIT, || async {
        (effects(&stack, Effect::Attached).len() == files.len()).then_some(())
    })
    .await;
    let answer = stack
        .client
        .post(&format!("/jobs/{job}/cancel"), &json!({}))
        .await;
    assert!(answer.status.is_success(), "{answer:?}");
    stack.client.finished(&job, LIMIT).await;
    stack.control().open_gate("build");
    let next = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(next["output"]["indexing_status"], "done", "{next}");
    assert_eq!(effects(&stack, Effect::FileCreated).len(), files.len());
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_call_that_hangs_does_not_keep_a_build_from_being_cancelled() {
    let stack = Stack::start().await;
    let hang = Action::LoseAnswer { how: Loss::Hang };
    let hang = Rule::on("vector_stores.file_batches.create", hang);
    stack.control().add_fault(hang).unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 3).await;
    let job = stack.client.build(&index).await;
    eventually("the batch", LIMIT, || async {
        (effects(&stack, Effect::Attached).len() == 3).then_some(())
    })
    .await;
    let asked = Instant::now();
    stack
        .client
        .post(&format!("/jobs/{job}/cancel"), &json!({}))
        .await
        .expect(202);
    let ended = stack.client.finished(&job, LIMIT).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    stack.control().clear_faults();
    let next = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(next["output"]["indexing_status"], "done", "{next}");
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        3,
        "found, not attached again"
    );
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_build_that_waits_for_its_provider_leaves_its_slot_to_the_next() {
    let stack = Stack::builder().setting("WORKER_CONCURRENCY", "1").start().await;
    stack
        .control()
        .add_fault(hold_indexing("page", "builds"))
        .unwrap();
    let mut builds = Vec::new();
    for _ in 0..8 {
        let (index, _) = index_with(&stack, 1).await;
        builds.push(stack.client.build(&index).await);
    }
    let begun = Instant::now();
    let _worker = stack.worker("worker");
    eventually("all files at the provider", LIMIT, || async {
        (effects(&stack, Effect::Attached).len() == builds.len()).then_some(())
    })
    .await;
    // A first pause is 100 ms, and grows to half a second within five seconds.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    stack.control().open_gate("builds");
    for build in builds {
        let job = stack.client.finished(&build, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    }
}
