//! Files that fail at the provider by no fault of theirs, as all files of a batch do that OGX was killed in: another try,
//! within the same build, and no more uploads than needed.

use std::collections::BTreeMap;
use std::time::Duration;

use rag_emulator::{Action, Effect, Emulator, Rule, When};
use rag_tests::{PROVIDER_KEY, Stack};
use serde_json::{Value, json};

use crate::fixtures::faults::hold;
use crate::fixtures::indexes::index_with;
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);

/// Indexing fails so often with this code.
fn fail(stack: &Stack, code: &str, times: Option<u64>) {
    let rule = Rule {
        when: When {
            filename: Some("page-1".to_owned()),
            times,
            ..When::default()
        },
        then: Action::FailIndexing {
            code: code.to_owned(),
            message: "it failed".to_owned(),
        },
    };
    stack.control().add_fault(rule).unwrap();
}

fn on(stack: &Stack, operation: &str, times: Option<u64>, then: Action) {
    let when = When {
        operation: Some(operation.to_owned()),
        times,
        ..When::default()
    };
    stack.control().add_fault(Rule { when, then }).unwrap();
}

async fn build(stack: &Stack, index: &str) -> Value {
    let client = &stack.client;
    client.finished(&client.build(index).await, LIMIT).await
}

#[tokio::test]
async fn a_file_that_failed_by_accident_is_tried_again_without_an_upload() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    fail(&stack, "server_error", Some(1));
    let job = build(&stack, &index).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 2);
    assert_eq!(effects(&stack, Effect::Attached).len(), 3);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_file_with_which_the_server_always_fails_has_failed_and_the_next_build_tries_again() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    fail(&stack, "server_error", Some(2));
    let job = build(&stack, &index).await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    let error = job["output"]["last_error"].as_str().unwrap();
    assert!(error.contains("page-1.md: it failed (server_error)"), "{error}");
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        3,
        "once more, and no more"
    );
    let job = build(&stack, &index).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 2);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_not_tried_again() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    fail(&stack, "invalid_file", None);
    let job = build(&stack, &index).await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    assert_eq!(effects(&stack, Effect::Attached).len(), 2);
}

/// The server takes the batch without looking, and then does not find one of its files.
#[tokio::test]
async fn a_file_that_the_server_lost_before_it_indexed_it_is_uploaded_again() {
    let emulator = Emulator::builder().indexing(5, 0.0).with(|options| {
        options.deviations.unchecked_batches = true;
    });
    let stack = Stack::builder().emulator(emulator).start().await;
    stack
        .control()
        .add_fault(hold("vector_stores.file_batches.create", "attaching"))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    let job = stack.client.build(&index).await;
    rag_tests::eventually("the files to be attached", LIMIT, || async {
        (stack.control().faults()[0].fired > 0).then_some(())
    })
    .await;
    let created = effects(&stack, Effect::FileCreated);
    let lost = created[0].file_id.as_deref().unwrap();
    let answer = reqwest::Client::new()
        .delete(format!("{}/files/{lost}", stack.emulator.url()))
        .bearer_auth(PROVIDER_KEY)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    stack.control().open_gate("attaching");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        3,
        "the lost one again"
    );
    for view in stack.client.provider_files(&index).await {
        assert_eq!(view["status"], "completed", "{view}");
    }
    // What is not found may still appear: the deletion of the lost copy waits until it can't.
    let left: Vec<String> = sqlx::query_scalar("SELECT subject FROM rag_provider_intents")
        .fetch_all(&stack.database.pool)
        .await
        .unwrap();
    assert_eq!(left, [lost]);
}

#[tokio::test]
async fn a_server_that_keeps_no_file_ends_the_build() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    fail(&stack, "server_error", None);
    let absent = Action::Respond {
        status: 404,
        headers: BTreeMap::default(),
        body: Some(json!({"error": {"message": "No such File object"}})),
        text: None,
        after_effect: false,
    };
    on(&stack, "files.retrieve", None, absent);
    let job = build(&stack, &index).await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    let uploads = effects(&stack, Effect::FileCreated).len();
    assert_eq!(uploads, 2 + 3, "three more uploads, and no more");
}
