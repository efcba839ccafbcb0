//! Builds that are cancelled, and what becomes of them afterwards.

use std::time::{Duration, Instant};

use rag_emulator::{Action, Effect, Emulator, Rule, When};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::indexes::index_with;
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);
const FILES: usize = 12;
/// A worker hears of it within a second; what is on the wire then takes a moment.
const HEARD: Duration = Duration::from_secs(20);

async fn cancel(stack: &Stack, job: &str) -> (u16, Value) {
    let answer = stack
        .client
        .post(&format!("/jobs/{job}/cancel"), &json!({}))
        .await;
    (answer.status.as_u16(), answer.body)
}

/// Uploads go four at a time: three rounds of a second and a half.
async fn slow_uploads() -> Stack {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(200, 0.0))
        .start()
        .await;
    let delay = Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            ..When::default()
        },
        then: Action::Delay { ms: 1500 },
    };
    stack.control().add_fault(delay).unwrap();
    stack
}

async fn some_uploads(stack: &Stack) {
    eventually("some uploads", LIMIT, || async {
        (effects(stack, Effect::FileCreated).len() >= 2).then_some(())
    })
    .await;
}

async fn assert_cancelled(stack: &Stack, index: &str) {
    let row = stack.client.index(index).await;
    assert_eq!(row["indexing_status"], "failed", "{row}");
    let error = row["last_error"].as_str().unwrap();
    assert!(
        error.starts_with("the build was cancelled; at the provider stay: vector store "),
        "{row}"
    );
}

/// All files up once, the index done, nothing left over.
async fn assert_built(stack: &Stack, index: &str, job: &str) {
    let job = stack.client.finished(job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(stack.client.index(index).await["indexing_status"], "done");
    assert_eq!(
        effects(stack, Effect::FileCreated).len(),
        FILES,
        "what was up stayed"
    );
    assert_eq!(effects(stack, Effect::StoreCreated).len(), 1);
    assert_no_orphans(stack).await;
}

#[tokio::test]
async fn a_running_build_stops_and_the_next_one_takes_it_up() {
    let stack = slow_uploads().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    some_uploads(&stack).await;

    let asked = Instant::now();
    let (status, body) = cancel(&stack, &job).await;
    assert_eq!((status, &body["cancel_requested"]), (202, &json!(true)), "{body}");
    let ended = stack.client.finished(&job, LIMIT).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(asked.elapsed() < HEARD, "{:?}", asked.elapsed());
    assert!(effects(&stack, Effect::FileCreated).len() < FILES);
    assert_cancelled(&stack, &index).await;
    assert_eq!(cancel(&stack, &job).await.0, 200, "again is as good as once");

    stack.control().clear_faults();
    let next = stack.client.build(&index).await;
    assert_ne!(next, job);
    assert_built(&stack, &index, &next).await;
    assert_eq!(cancel(&stack, &next).await.0, 409, "what is done is done");
    let retry = stack
        .client
        .post(&format!("/jobs/{next}/retry"), &json!({}))
        .await;
    retry.expect(409);
}

#[tokio::test]
async fn a_cancelled_build_can_be_run_again_under_its_id() {
    let stack = slow_uploads().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    some_uploads(&stack).await;
    cancel(&stack, &job).await;
    stack.client.finished(&job, LIMIT).await;
    stack.control().clear_faults();

    let path = format!("/jobs/{job}/retry");
    let body = stack.client.post(&path, &json!({})).await.expect(202);
    assert_eq!(
        (&body["id"], &body["cancel_requested"]),
        (&json!(job), &json!(false)),
        "{body}"
    );
    assert_built(&stack, &index, &job).await;
}

/// Nobody is there to end the build for the API: it does so itself, at once.
#[tokio::test]
async fn a_build_that_waits_between_two_workers_is_cancelled_at_once() {
    let stack = slow_uploads().await;
    let mut worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    some_uploads(&stack).await;
    worker.signal("TERM").await;
    worker.wait(LIMIT).await;
    assert_eq!(stack.client.job(&job).await["state"], "ready");
    assert_eq!(stack.client.index(&index).await["indexing_status"], "in_progress");

    let (status, body) = cancel(&stack, &job).await;
    assert_eq!((status, &body["state"]), (200, &json!("cancelled")), "{body}");
    assert_cancelled(&stack, &index).await;

    stack.control().clear_faults();
    let _second = stack.worker("second");
    let next = stack.client.build(&index).await;
    assert_built(&stack, &index, &next).await;
}

#[tokio::test]
async fn a_build_that_has_not_begun_leaves_no_trace() {
    let stack = Stack::start().await;
    let (index, _) = index_with(&stack, 1).await;
    let job = stack.client.build(&index).await;
    let stranger = stack.client.in_domain("other");
    for action in ["cancel", "retry"] {
        stranger
            .post(&format!("/jobs/{job}/{action}"), &json!({}))
            .await
            .expect(404);
    }
    let retry = stack.client.post(&format!("/jobs/{job}/retry"), &json!({})).await;
    retry.expect(409);
    assert_eq!(cancel(&stack, &job).await.0, 200);
    let row = stack.client.index(&index).await;
    assert_eq!(
        (&row["indexing_status"], &row["last_error"]),
        (&json!("not_indexed"), &json!(null)),
        "{row}"
    );
    // Another build takes its place: the old job cannot come back beside it.
    let next = stack.client.build(&index).await;
    let refused = stack
        .client
        .post(&format!("/jobs/{job}/retry"), &json!({}))
        .await
        .expect(409);
    assert!(refused["detail"].as_str().unwrap().contains(&next), "{refused}");
    let _worker = stack.worker("worker");
    let ended = stack.client.finished(&next, LIMIT).await;
    assert_eq!(ended["output"]["indexing_status"], "done", "{ended}");
}
