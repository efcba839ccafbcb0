//! What is not found is not gone: stray 404s, missing routes, and listings with holes detach, fail and make nothing anew.

use std::time::Duration;

use rag_emulator::{Action, Effect, Rule, When};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::built;
use crate::fixtures::indexes::index_with;
use crate::fixtures::jobs::{sync, waited};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_secs(90);

fn not_found() -> Action {
    Action::Respond {
        status: 404,
        headers: std::collections::BTreeMap::default(),
        body: Some(json!({"error": {"message": "No such object", "type": "invalid_request_error"}})),
        text: None,
        after_effect: false,
    }
}

fn on(operation: &str, times: Option<u64>, then: Action) -> Rule {
    let when = When {
        operation: Some(operation.to_owned()),
        times,
        ..When::default()
    };
    Rule { when, then }
}

/// As long ago as nothing is new any more.
async fn age(stack: &Stack) {
    sqlx::query("UPDATE rag_indexes SET updated_at = updated_at - INTERVAL 1 HOUR")
        .execute(&stack.database.pool)
        .await
        .unwrap();
}

/// The result of a sync of the whole provider.
async fn provider_sync(stack: &Stack) -> Value {
    crate::fixtures::jobs::provider_sync(stack, "").await
}

#[tokio::test]
async fn a_stray_404_detaches_no_index() {
    for is_old in [false, true] {
        let stack = Stack::start().await;
        let _worker = stack.worker("worker");
        let (index, _) = index_with(&stack, 2).await;
        let store = built(&stack.client, &index).await;
        for operation in ["vector_stores.retrieve", "vector_stores.files.list"] {
            if is_old {
                age(&stack).await;
            }
            stack
                .control()
                .add_fault(on(operation, Some(1), not_found()))
                .unwrap();
            let synced = sync(&stack.client, &index).await;
            assert_eq!(
                synced["external_id"],
                json!(store),
                "{operation}, old: {is_old}: {synced}"
            );
            assert_eq!(synced["sync_report"]["detached"], false, "{synced}");
            assert_eq!(synced["indexing_status"], "done", "{synced}");
        }
        let status = stack
            .client
            .get(&format!("/indexes/{index}/status"))
            .await
            .expect(200);
        assert_eq!(
            status["store_missed_at"],
            Value::Null,
            "it was seen again: {status}"
        );
        built(&stack.client, &index).await;
        assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
        assert_eq!(effects(&stack, Effect::Attached).len(), 2);
        assert_no_orphans(&stack).await;
    }
}

#[tokio::test]
async fn a_stray_404_fails_no_build() {
    for operation in ["vector_stores.retrieve", "vector_stores.files.list"] {
        let stack = Stack::start().await;
        let _worker = stack.worker("worker");
        let (index, _) = index_with(&stack, 2).await;
        let store = built(&stack.client, &index).await;
        age(&stack).await;
        stack
            .control()
            .add_fault(on(operation, Some(1), not_found()))
            .unwrap();
        assert_eq!(built(&stack.client, &index).await, store, "{operation}");
        assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
        assert_no_orphans(&stack).await;
    }
}

/// The provider contradicts itself: nothing is known, and that is told.
#[tokio::test]
async fn a_store_that_is_listed_and_not_found_is_unknown() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    let store = built(&stack.client, &index).await;
    age(&stack).await;
    stack
        .control()
        .add_fault(on("vector_stores.retrieve", None, not_found()))
        .unwrap();
    let synced = sync(&stack.client, &index).await;
    assert_eq!(synced["external_id"], json!(store), "{synced}");
    let unknown = synced["sync_report"]["unknown"]
        .as_str()
        .unwrap_or_else(|| panic!("{synced}"));
    assert!(unknown.contains("lists it"), "{synced}");
    let status = stack
        .client
        .get(&format!("/indexes/{index}/status"))
        .await
        .expect(200);
    assert!(status["store_missed_at"].is_string(), "{status}");
    for (what, answer) in [
        ("domain", waited(&stack.client, "/indexes/sync?force=true").await),
        ("provider", provider_sync(&stack).await),
    ] {
        assert!(
            stack.client.index(&index).await["external_id"].is_string(),
            "{what}: {answer}"
        );
    }
}

/// A server without the route that lists a store's files.
#[tokio::test]
async fn without_a_listing_of_files_nothing_is_detached_and_builds_end() {
    let stack = Stack::start().await;
    let missing = Action::Respond {
        status: 404,
        headers: std::collections::BTreeMap::default(),
        body: Some(json!({"detail": "Not Found"})),
        text: None,
        after_effect: false,
    };
    stack
        .control()
        .add_fault(on("vector_stores.files.list", None, missing))
        .unwrap();
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 3).await;
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert!(
        job["output"]["unverified"][0].is_string(),
        "what could not be verified is told: {job}"
    );
    age(&stack).await;
    let synced = sync(&stack.client, &index).await;
    assert!(synced["external_id"].is_string(), "{synced}");
    assert!(
        synced["sync_report"]["unknown"]
            .as_str()
            .unwrap()
            .contains("list"),
        "{synced}"
    );
    let whole = waited(&stack.client, "/indexes/sync?force=true").await;
    assert!(client.index(&index).await["external_id"].is_string(), "{whole}");
    let run = provider_sync(&stack).await;
    assert!(client.index(&index).await["external_id"].is_string(), "{run}");
    assert_eq!(effects(&stack, Effect::Attached).len(), 3);
}

/// A listing with a hole and a stray 404 of the same store: both witnesses err, for a moment.
#[tokio::test]
async fn a_sync_of_the_provider_lists_twice_before_it_detaches() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    let store = built(&stack.client, &index).await;
    age(&stack).await;
    let hole = Action::EmptyPage { has_more: false };
    stack
        .control()
        .add_fault(on("vector_stores.list", Some(1), hole))
        .unwrap();
    stack
        .control()
        .add_fault(on("vector_stores.retrieve", Some(1), not_found()))
        .unwrap();
    let run = provider_sync(&stack).await;
    assert_eq!(
        stack.client.index(&index).await["external_id"],
        json!(store),
        "{run}"
    );
    assert_eq!(run["indexes_detached"], 0, "{run}");
}

/// Listed twice without it: the store is really gone.
#[tokio::test]
async fn a_store_that_is_gone_is_detached_after_the_second_listing() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    let store = built(client, &index).await;
    age(&stack).await;
    Other::at(&stack).delete_store(&store).await;
    let answer = client
        .post(&format!("/indexes/{index}/sync?force=true"), &json!({}))
        .await
        .expect(202);
    eventually("the first listing", LIMIT, || async {
        let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
        (status["store_missed_at"].is_string() || status["external_id"].is_null()).then_some(())
    })
    .await;
    let job = client.finished(answer["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["output"]["detached"], true, "{job}");
}
