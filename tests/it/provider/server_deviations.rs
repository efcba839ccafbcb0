//! Servers that do otherwise than the document says, as real ones do: builds believe what they see there.

use std::time::Duration;

use rag_emulator::{Action, Builder, Effect, Emulator, Entry, LedgerQuery, Options, Rule, When};
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::indexes::{fixed, index_with, prose};
use crate::fixtures::jobs::sync;
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_secs(100);
const CONNECTION: &str = "/admin/providers/connections/openai";

async fn stack(emulator: Builder) -> Stack {
    Stack::builder().emulator(emulator).start().await
}

fn emulator(change: impl FnOnce(&mut Options)) -> Builder {
    Emulator::builder().indexing(5, 0.0).with(change)
}

/// As OGX 1.5.0 does, as far as builds and searches meet it.
fn like_ogx(options: &mut Options) {
    options.deviations.hide_while_indexing = true;
    options.deviations.ignore_batch_files = true;
    options.deviations.attach_answers_indexed = true;
    options.deviations.own_search_ids = true;
    options.deviations.missing_is_400 = true;
    options.deviations.close_after_missing = true;
}

/// Six files with three strategies.
async fn mixed_index(stack: &Stack, name: &str) -> (String, Vec<String>) {
    let index = stack.client.create_index(name, "openai").await;
    let strategies = [
        Some(fixed(200, 50)),
        Some(fixed(200, 50)),
        Some(fixed(1000, 0)),
        Some(fixed(1000, 0)),
        None,
        None,
    ];
    let mut files = Vec::new();
    for (n, strategy) in strategies.into_iter().enumerate() {
        let text = prose(&format!("{name}{n}x"), 200);
        let file = stack
            .client
            .upload(&format!("page-{n}.md"), &text, strategy)
            .await;
        stack.client.link(&index, &file).await;
        files.push(file);
    }
    (index, files)
}

/// Builds the index to its end, without spending an attempt.
async fn built(stack: &Stack, index: &str) -> Value {
    let job = stack
        .client
        .finished(&stack.client.build(index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    for item in stack.client.provider_files(index).await {
        assert_eq!(item["status"], "completed", "{item}");
    }
    job
}

fn requests(stack: &Stack, operation: &str) -> Vec<Entry> {
    let mut entries = stack.control().ledger(&LedgerQuery::default());
    entries.retain(|entry| &*entry.operation == operation && entry.client_request_id.is_some());
    entries.dedup_by(|a, b| a.request_id == b.request_id);
    entries
}

async fn capabilities(stack: &Stack) -> Value {
    stack.admin.get(CONNECTION).await.expect(200)["capabilities"].clone()
}

/// Condition 1: files of a batch appear one after the other, long after they were accepted.
#[tokio::test]
async fn while_a_batch_runs_a_file_that_is_not_listed_is_not_missed() {
    let slow = Emulator::builder().indexing(300, 0.0).with(|options| {
        options.deviations.hide_while_indexing = true;
        options.indexing_parallelism = 1;
    });
    let stack = stack(slow).await;
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 20).await;
    let job = stack.client.build(&index).await;
    // They are accepted in one batch or in several.
    let all_aged = std::cell::Cell::new(0);
    eventually("accepted files, older than the time for new ones", LIMIT, || async {
        let sql = "UPDATE rag_index_attachments SET attached_at = attached_at - INTERVAL 40 SECOND WHERE state = 'in_progress' \
                   AND attached_at > UTC_TIMESTAMP(6) - INTERVAL 30 SECOND";
        let aged = sqlx::query(sql).execute(&stack.database.pool).await.unwrap().rows_affected();
        all_aged.set(all_aged.get() + aged);
        (all_aged.get() > 10).then_some(())
    })
    .await;
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(effects(&stack, Effect::Attached).len(), files.len());
    assert_no_orphans(&stack).await;
}

/// Condition 2: a batch of `files` is accepted and ignored.
#[tokio::test]
async fn a_batch_that_took_nothing_is_found_out_and_not_sent_again() {
    let stack = stack(emulator(|options| options.deviations.ignore_batch_files = true)).await;
    let _worker = stack.worker("worker");
    let (index, _) = mixed_index(&stack, "first").await;
    built(&stack, &index).await;
    assert_eq!(effects(&stack, Effect::Attached).len(), 6);
    assert_eq!(
        effects(&stack, Effect::BatchCreated).len(),
        1 + 3,
        "in vain, then one for each strategy"
    );
    let learned = capabilities(&stack).await;
    assert_eq!(learned["batch_files"]["holds"], false, "{learned}");
    assert!(
        learned["batch_files"]["how"].as_str().unwrap().contains("batch"),
        "{learned}"
    );

    // Every worker knows by now, also one that is new.
    let _another = stack.worker("another");
    let (second, _) = mixed_index(&stack, "second").await;
    built(&stack, &second).await;
    assert_eq!(effects(&stack, Effect::BatchCreated).len(), 4 + 3);

    // Another limit changes nothing of what the server can do; other credentials may be those of another one.
    stack
        .admin
        .patch(CONNECTION, &json!({"max_concurrent_requests": 9}))
        .await
        .expect(200);
    assert_eq!(capabilities(&stack).await["batch_files"]["holds"], false);
    stack
        .admin
        .patch(CONNECTION, &json!({"credentials": {"api_key": PROVIDER_KEY}}))
        .await
        .expect(200);
    assert_eq!(capabilities(&stack).await, json!({}));
    assert_no_orphans(&stack).await;
}

/// No route for batches, as at LiteLLM 1.108.
#[tokio::test]
async fn without_batches_files_go_in_one_by_one() {
    let stack = stack(emulator(|_| {})).await;
    let route = Rule {
        when: When {
            path: Some("/file_batches".to_owned()),
            ..When::default()
        },
        then: Action::Respond {
            status: 404,
            headers: std::collections::BTreeMap::default(),
            body: Some(json!({"detail": "Not Found"})),
            text: None,
            after_effect: false,
        },
    };
    stack.control().add_fault(route).unwrap();
    let _worker = stack.worker("worker");
    for (name, batches) in [("first", 1), ("second", 1)] {
        let (index, _) = mixed_index(&stack, name).await;
        built(&stack, &index).await;
        let tried = requests(&stack, "vector_stores.file_batches.create").len();
        assert_eq!(tried, batches, "{name}: the route was tried once");
    }
    assert_eq!(capabilities(&stack).await["file_batches"]["holds"], false);
    assert_eq!(requests(&stack, "vector_stores.files.create").len(), 12);
    assert_no_orphans(&stack).await;
}

/// A transient failure teaches nothing.
#[tokio::test]
async fn what_fails_for_a_moment_is_not_learned() {
    let stack = stack(emulator(|_| {})).await;
    for status in [503, 500] {
        let when = When {
            operation: Some("vector_stores.file_batches.create".to_owned()),
            times: Some(1),
            ..When::default()
        };
        let then = Action::Respond {
            status,
            headers: std::collections::BTreeMap::default(),
            body: None,
            text: None,
            after_effect: false,
        };
        stack.control().add_fault(Rule { when, then }).unwrap();
    }
    let _worker = stack.worker("worker");
    let (index, _) = mixed_index(&stack, "first").await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let learned = capabilities(&stack).await;
    for name in ["file_batches", "batch_files"] {
        assert_ne!(learned[name]["holds"], false, "{learned}");
    }
}

/// Condition 6: counts that never reach zero, at a store with more files than are listed always.
#[tokio::test]
async fn counts_that_never_reach_zero_hold_nothing_up() {
    let stack = stack(emulator(|_| {})).await;
    let unmoved = json!({"in_progress": 1, "completed": 0, "failed": 0, "cancelled": 0, "total": 1});
    for (operation, status) in [
        ("vector_stores.retrieve", "in_progress"),
        ("vector_stores.file_batches.retrieve", "in_progress"),
    ] {
        let fields = json!({"file_counts": unmoved, "status": status})
            .as_object()
            .unwrap()
            .clone();
        let when = When {
            operation: Some(operation.to_owned()),
            ..When::default()
        };
        let then = Action::MergeJson { fields };
        stack.control().add_fault(Rule { when, then }).unwrap();
    }
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 510).await;
    built(&stack, &index).await;
    assert_eq!(effects(&stack, Effect::Attached).len(), files.len());
}

/// Condition 7: the answer to an attach takes as long as the indexing.
#[tokio::test]
async fn an_attach_whose_answer_takes_its_time_is_sent_once() {
    let slow = Emulator::builder().indexing(35_000, 0.0).with(like_ogx);
    let stack = stack(slow).await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    built(&stack, &index).await;
    assert_eq!(requests(&stack, "vector_stores.files.create").len(), 1);
    assert_eq!(capabilities(&stack).await["attach_returns_early"]["holds"], false);
}

/// A gateway in between gave up; the server goes on.
#[tokio::test]
async fn an_attach_that_was_not_answered_in_time_is_looked_for_and_not_sent_again() {
    let slow = Emulator::builder()
        .indexing(6_000, 0.0)
        .with(|options| options.deviations.hide_while_indexing = true);
    let stack = stack(slow).await;
    let when = When {
        operation: Some("vector_stores.files.create".to_owned()),
        ..When::default()
    };
    let then = Action::Respond {
        status: 504,
        headers: std::collections::BTreeMap::default(),
        body: None,
        text: None,
        after_effect: true,
    };
    stack.control().add_fault(Rule { when, then }).unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    built(&stack, &index).await;
    assert_eq!(requests(&stack, "vector_stores.files.create").len(), 1);
    assert_no_orphans(&stack).await;
}

/// A gateway in between gave up, and nothing of the request arrived. The server has answered an attach at once before.
#[tokio::test]
async fn an_attach_that_a_gateway_lost_is_sent_again_soon() {
    let stack = stack(Emulator::builder().indexing(500, 0.0)).await;
    let _worker = stack.worker("worker");
    let (first, _) = index_with(&stack, 1).await;
    built(&stack, &first).await;
    assert_eq!(capabilities(&stack).await["attach_returns_early"]["holds"], true);
    for (operation, files) in [
        ("vector_stores.files.create", 1),
        ("vector_stores.file_batches.create", 6),
    ] {
        let when = When {
            operation: Some(operation.to_owned()),
            times: Some(1),
            ..When::default()
        };
        let then = Action::Respond {
            status: 504,
            headers: std::collections::BTreeMap::default(),
            body: None,
            text: None,
            after_effect: false,
        };
        stack.control().add_fault(Rule { when, then }).unwrap();
        let before = requests(&stack, operation).len();
        let (index, _) = index_with(&stack, files).await;
        built(&stack, &index).await;
        assert_eq!(requests(&stack, operation).len(), before + 2, "{operation}");
        stack.control().clear_faults();
    }
    assert_no_orphans(&stack).await;
}

/// Condition 13, and everything that OGX does at once.
#[tokio::test]
async fn a_server_like_ogx_simply_works() {
    let stack = stack(Emulator::builder().indexing(300, 0.0).with(like_ogx)).await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = mixed_index(&stack, "first").await;
    built(&stack, &index).await;

    let found = client
        .post(
            &format!("/indexes/{index}/search"),
            &json!({"query": "first0x1 first0x2"}),
        )
        .await
        .expect(200);
    let best = &found["items"][0];
    assert_eq!(best["file_id"], json!(files[0]), "{found}");
    assert_eq!(best["file_name"], "page-0.md", "{found}");

    client
        .patch(
            &format!("/files/{}", files[2]),
            &json!({"chunking_strategy": fixed(400, 0)}),
        )
        .await
        .expect(200);
    client.replace(&files[3], &prose("changed", 60)).await;
    client.unlink(&index, &files[4]).await;
    built(&stack, &index).await;
    assert_eq!(stack.control().state().stores[0].files.len(), 5);
    let synced = sync(client, &index).await;
    assert_eq!(synced["indexing_status"], "done", "{synced}");
    assert_eq!(synced["sync_report"]["unknown"], Value::Null, "{synced}");

    let deletion = client.delete(&format!("/indexes/{index}")).await.expect(202);
    let deletion = client.finished(deletion["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(deletion["state"], "done", "{deletion}");
    assert!(stack.control().state().stores.is_empty());
}
