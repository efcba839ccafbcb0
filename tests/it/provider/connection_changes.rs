//! A connection that is switched off, or gets another host or key, while jobs work with it: nothing more is sent with what it
//! was, and nothing is lost.

use std::time::Duration;

use rag_emulator::{Action, Effect, Emulator, LedgerQuery, Rule};
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::indexes::index_with;
use crate::fixtures::jobs::retry_now;
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);
const CONNECTION: &str = "/admin/providers/connections/openai";
const OTHER_KEY: &str = "sk-c4n4ry-9b3e7d1a5c2f";
const FILES: usize = 24;
/// Requests of a worker that may have had leave before the connection was changed.
const ON_THE_WAY: usize = 4;

/// All but the first few of these calls take so long that a change always comes amid them.
fn slow(stack: &Stack, operation: &str) {
    let rule = Rule::on(operation, Action::Delay { ms: 1000 }).from_nth(4);
    stack.control().add_fault(rule).unwrap();
}

fn calls(emulator: &Emulator, operation: &str) -> usize {
    let query = LedgerQuery {
        operation: Some(operation.to_owned()),
        ..LedgerQuery::default()
    };
    emulator.control().ledger(&query).len()
}

/// Requests that have arrived, of whatever kind.
fn arrived(emulator: &Emulator) -> u64 {
    emulator
        .control()
        .rates()
        .prefixes
        .get("*")
        .map_or(0, |rate| rate.total)
}

async fn stack(emulator: rag_emulator::Builder) -> Stack {
    let concurrency = ON_THE_WAY.to_string();
    Stack::builder()
        .emulator(emulator)
        .setting("BUILD_UPLOAD_CONCURRENCY", &concurrency)
        .start()
        .await
}

/// Until a few of these calls were made.
async fn amid(stack: &Stack, operation: &str) {
    eventually("calls", LIMIT, || async {
        (calls(&stack.emulator, operation) >= 3).then_some(())
    })
    .await;
}

/// Changes the connection once `operation` has been called a few times; answers how many requests came after that.
async fn change_amid(stack: &Stack, operation: &str, change: &Value) -> u64 {
    amid(stack, operation).await;
    stack.admin.patch(CONNECTION, change).await.expect(200);
    let before = arrived(&stack.emulator);
    tokio::time::sleep(Duration::from_secs(2)).await;
    arrived(&stack.emulator) - before
}

fn allowed() -> u64 {
    ON_THE_WAY as u64
}

#[tokio::test]
async fn uploads_stop_when_the_connection_is_switched_off_and_go_on_afterwards() {
    let stack = stack(Emulator::builder().indexing(5, 0.0)).await;
    slow(&stack, "files.create");
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    let after = change_amid(&stack, "files.create", &json!({"is_enabled": false})).await;
    assert!(
        after <= allowed(),
        "{after} requests of a connection that is switched off"
    );
    let waiting = eventually("the build to wait", LIMIT, || async {
        let waiting = stack.client.job(&job).await;
        waiting.to_string().contains("switched off").then_some(waiting)
    })
    .await;
    assert_eq!(waiting["attempts"], 0, "{waiting}");

    stack.control().clear_faults();
    stack
        .admin
        .patch(CONNECTION, &json!({"is_enabled": true}))
        .await
        .expect(200);
    retry_now(&stack.client, &job).await;
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        calls(&stack.emulator, "files.create"),
        FILES,
        "each file went up once"
    );
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn attaches_stop_when_the_connection_is_switched_off() {
    let single = |options: &mut rag_emulator::Options| options.deviations.no_file_batches = true;
    let stack = stack(Emulator::builder().indexing(5, 0.0).with(single)).await;
    slow(&stack, "vector_stores.files.create");
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    let off = json!({"is_enabled": false});
    let after = change_amid(&stack, "vector_stores.files.create", &off).await;
    assert!(
        after <= allowed(),
        "{after} requests of a connection that is switched off"
    );
    stack.control().clear_faults();
    stack
        .admin
        .patch(CONNECTION, &json!({"is_enabled": true}))
        .await
        .expect(200);
    retry_now(&stack.client, &job).await;
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_deleted_connection_stops_what_works_with_it() {
    let stack = stack(Emulator::builder().indexing(5, 0.0)).await;
    slow(&stack, "files.create");
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    stack.client.build(&index).await;
    amid(&stack, "files.create").await;
    stack.admin.delete(CONNECTION).await;
    let before = arrived(&stack.emulator);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = arrived(&stack.emulator) - before;
    assert!(
        after <= allowed(),
        "{after} requests of a connection that is gone"
    );
}

/// The provider takes the key of before still, and no other.
#[tokio::test]
async fn nothing_is_sent_with_a_key_that_was_replaced() {
    let stack = stack(Emulator::builder().indexing(5, 0.0)).await;
    slow(&stack, "files.create");
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    amid(&stack, "files.create").await;
    let key = |key: &str| json!({"credentials": {"api_key": key}});
    stack.admin.patch(CONNECTION, &key(OTHER_KEY)).await.expect(200);
    let before = effects(&stack, Effect::FileCreated).len();
    eventually("the refusal", LIMIT, || async {
        let row = stack.admin.get(CONNECTION).await.expect(200);
        row["last_error"].is_string().then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = effects(&stack, Effect::FileCreated).len() - before;
    // Those that were under way take effect late, and some had leave already.
    assert!(after <= 2 * ON_THE_WAY, "{after} uploads with the key of before");
    stack.control().clear_faults();
    stack
        .admin
        .patch(CONNECTION, &key(PROVIDER_KEY))
        .await
        .expect(200);
    retry_now(&stack.client, &job).await;
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn nothing_is_sent_to_a_host_that_was_left() {
    let stack = stack(Emulator::builder().indexing(5, 0.0)).await;
    let other = Emulator::builder().api_key(OTHER_KEY).start().await.unwrap();
    slow(&stack, "files.create");
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    stack.client.build(&index).await;
    let change = json!({"base_url": other.url(), "credentials": {"api_key": OTHER_KEY}});
    let after = change_amid(&stack, "files.create", &change).await;
    assert!(after <= allowed(), "{after} requests to the host of before");
    eventually("the work to go on at the new host", LIMIT, || async {
        (arrived(&other) > 0).then_some(())
    })
    .await;
}
