//! What a provider answered wrong stands at the entity that it is about, until the same works.

use std::time::Duration;

use rag_emulator::{Action, Effect, Rule};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::indexes::built;
use crate::fixtures::indexes::index_with;
use crate::fixtures::jobs::{self, provider_sync};
use crate::fixtures::ledger::{assert_no_orphans, effects};
use crate::fixtures::rows::count;

const LIMIT: Duration = Duration::from_mins(1);

/// From now on this operation is answered 503.
fn sick(stack: &Stack, operation: &str) {
    let rule = Rule::on(operation, Action::refuse(503));
    stack.control().add_fault(rule).unwrap();
}

/// As the index and its status tell it: two reads, and what is written between them is in the second alone.
async fn index_error(stack: &Stack, index: &str) -> Value {
    eventually("an index and its status that agree", LIMIT, || async {
        let error = stack.client.index(index).await["last_error"].clone();
        let path = format!("/indexes/{index}/status");
        let status = stack.client.get(&path).await.expect(200);
        (status["last_error"] == error).then_some(error)
    })
    .await
}

async fn connection_error(stack: &Stack) -> Value {
    let connection = stack
        .admin
        .get("/admin/providers/connections/openai")
        .await
        .expect(200);
    connection["last_error"].clone()
}

fn says_503(error: &Value) -> bool {
    error.as_str().is_some_and(|error| error.contains("HTTP 503"))
}

async fn stack_with_attempts(attempts: &str) -> Stack {
    Stack::builder()
        .setting("BUILD_MAX_ATTEMPTS", attempts)
        .start()
        .await
}

#[tokio::test]
async fn a_build_that_gives_up_its_uploads_leaves_none_pending() {
    let stack = stack_with_attempts("3").await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 3).await;
    sick(&stack, "files.create");
    let job = client.build(&index).await;
    eventually("the error between two tries", LIMIT, || async {
        let row = client.index(&index).await;
        (row["indexing_status"] == "in_progress" && says_503(&row["last_error"])).then_some(())
    })
    .await;
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(says_503(&index_error(&stack, &index).await));
    let uploads = "SELECT COUNT(*) FROM rag_provider_file_uploads WHERE status = 'pending'";
    assert_eq!(count(&stack, uploads).await, 0);
    let mut told = 0;
    for file in &files {
        let path = format!("/files/{file}/provider-uploads/openai");
        let upload = client.get(&path).await;
        if upload.status == 404 {
            // It was never its turn.
            continue;
        }
        assert_eq!(upload.body["status"], "failed", "{upload:?}");
        assert!(says_503(&upload.body["last_error"]), "{upload:?}");
        told += 1;
    }
    assert!(told > 0);

    stack.control().clear_faults();
    built(client, &index).await;
    assert_eq!(index_error(&stack, &index).await, json!(null));
    let errors = "SELECT COUNT(*) FROM rag_provider_file_uploads WHERE last_error IS NOT NULL OR error_code IS NOT NULL";
    assert_eq!(count(&stack, errors).await, 0);
}

#[tokio::test]
async fn a_build_that_gives_up_its_attaches_leaves_none_pending() {
    let stack = stack_with_attempts("1").await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 3).await;
    // Refused without effect, for good: so the files are wanted in the store, and nobody knows of them there.
    let limited = Action::RateLimit { retry_after: None };
    let rule = Rule::on("vector_stores.file_batches.create", limited);
    stack.control().add_fault(rule).unwrap();
    let job = client.build(&index).await;
    eventually("the attach to be wanted", LIMIT, || async {
        let sql = "SELECT COUNT(*) FROM rag_index_attachments WHERE state = 'pending'";
        (count(&stack, sql).await == 3).then_some(())
    })
    .await;
    let cancel = format!("/jobs/{job}/cancel");
    assert!(client.post(&cancel, &json!({})).await.status.is_success());
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["state"], "cancelled", "{job}");
    eventually("the build to end", LIMIT, || async {
        (client.index(&index).await["indexing_status"] == "failed").then_some(())
    })
    .await;
    let pending = "SELECT COUNT(*) FROM rag_index_attachments WHERE state = 'pending'";
    assert_eq!(count(&stack, pending).await, 0);
    for item in client.provider_files(&index).await {
        assert_eq!(
            (&item["status"], &item["error_code"]),
            (&json!("failed"), &json!("not_attached")),
            "{item}"
        );
        assert!(item["last_error"].is_string(), "{item}");
    }

    stack.control().clear_faults();
    built(client, &index).await;
    assert!(
        effects(&stack, Effect::Detached).is_empty(),
        "what was never asked for is not taken out"
    );
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 3);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_search_and_a_listing_that_fail_are_told_by_the_index_until_one_works() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    built(client, &index).await;
    let search = format!("/indexes/{index}/search");
    let listing = format!("/indexes/{index}/provider-files?source=provider");
    let query = json!({"query": "w0x1"});
    sick(&stack, "vector_stores.search");
    client.post(&search, &query).await.expect(502);
    let error = index_error(&stack, &index).await;
    assert!(
        says_503(&error) && error.to_string().contains("search"),
        "{error}"
    );
    client.post(&search, &query).await.expect(502);
    stack.control().clear_faults();
    client.post(&search, &query).await.expect(200);
    assert_eq!(index_error(&stack, &index).await, json!(null));

    sick(&stack, "vector_stores.files.list");
    client.get(&listing).await.expect(502);
    assert!(says_503(&index_error(&stack, &index).await));
    stack.control().clear_faults();
    client.get(&listing).await.expect(200);
    assert_eq!(index_error(&stack, &index).await, json!(null));
    // What the caller asked wrong is no error of the index.
    let wrong = json!({"query": "w0x1", "filters": {"type": "no such type"}});
    client.post(&search, &wrong).await.expect(422);
    assert_eq!(index_error(&stack, &index).await, json!(null));
}

#[tokio::test]
async fn a_sync_that_fails_is_told_by_its_index_until_one_works() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    built(client, &index).await;
    sick(&stack, "vector_stores.files.list");
    let path = format!("/indexes/{index}/sync?force=true");
    client.post(&path, &json!({})).await.expect(202);
    let error = eventually("the error", LIMIT, || async {
        let error = index_error(&stack, &index).await;
        error.is_string().then_some(error)
    })
    .await;
    assert!(says_503(&error) && error.to_string().contains("sync"), "{error}");
    // A search that works says nothing of syncs.
    let search = format!("/indexes/{index}/search");
    client.post(&search, &json!({"query": "w0x1"})).await.expect(200);
    let error = index_error(&stack, &index).await;
    assert!(says_503(&error) && error.to_string().contains("sync"), "{error}");
    stack.control().clear_faults();
    eventually("a sync to succeed", LIMIT, || async {
        index_error(&stack, &index).await.is_null().then_some(())
    })
    .await;
    assert_eq!(client.index(&index).await["indexing_status"], "done");
}

#[tokio::test]
async fn a_provider_sync_that_fails_is_told_by_connection_and_index_until_one_works() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    built(&stack.client, &index).await;
    // The store alone.
    sick(&stack, "vector_stores.files.list");
    let result = provider_sync(&stack, "").await;
    assert_eq!(result["stores_failed"], 1, "{result}");
    let error = index_error(&stack, &index).await;
    assert!(says_503(&error) && error.to_string().contains("sync"), "{error}");
    stack.control().clear_faults();
    let result = provider_sync(&stack, "").await;
    assert_eq!(result["stores_failed"], 0, "{result}");
    assert_eq!(index_error(&stack, &index).await, json!(null));
    assert_eq!(connection_error(&stack).await, json!(null));

    // The whole.
    sick(&stack, "vector_stores.list");
    stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(202);
    eventually("the error", LIMIT, || async {
        says_503(&connection_error(&stack).await).then_some(())
    })
    .await;
    let search = format!("/indexes/{index}/search");
    stack
        .client
        .post(&search, &json!({"query": "w0x1"}))
        .await
        .expect(200);
    assert!(
        says_503(&connection_error(&stack).await),
        "a search says nothing of syncs"
    );
    stack.control().clear_faults();
    eventually("a sync to succeed", LIMIT, || async {
        connection_error(&stack).await.is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_probe_and_an_admins_listing_that_fail_are_told_by_the_connection() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    sick(&stack, "vector_stores.create");
    let report = jobs::probe(&stack, "openai").await;
    assert_eq!(report["verdict"], "unusable", "{report}");
    assert!(says_503(&connection_error(&stack).await));
    stack.control().clear_faults();
    let health = "/admin/providers/openai/health";
    assert_eq!(stack.admin.get(health).await.expect(200)["status"], "ok");
    assert_eq!(connection_error(&stack).await, json!(null));

    sick(&stack, "vector_stores.list");
    let listing = "/admin/providers/openai/vector-stores";
    stack.admin.get(listing).await.expect(502);
    assert!(says_503(&connection_error(&stack).await));
    stack.control().clear_faults();
    stack.admin.get(listing).await.expect(200);
    assert_eq!(connection_error(&stack).await, json!(null));
}
