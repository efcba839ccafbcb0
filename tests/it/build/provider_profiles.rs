//! The same build at each kind of provider: six files, each with its own strategy or none.

use std::time::Duration;

use rag_emulator::{Action, Builder, Effect, Emulator, Loss, Profile, Rule, When};
use rag_tests::Stack;
use serde_json::{Value, json};

use crate::fixtures::indexes::{fixed, prose};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_secs(30);

fn strategies() -> [Option<Value>; 6] {
    [
        Some(fixed(200, 50)),
        Some(fixed(200, 50)),
        Some(fixed(1000, 0)),
        Some(json!({"type": "auto"})),
        None,
        None,
    ]
}

async fn stack(provider: &str, emulator: Builder) -> Stack {
    let stack = Stack::builder().emulator(emulator.indexing(5, 0.0)).start().await;
    if provider != "openai" {
        stack.connect(provider).await;
    }
    stack
}

async fn mixed_index(stack: &Stack, provider: &str) -> String {
    let index = stack.client.create_index("handbook", provider).await;
    for (n, strategy) in strategies().into_iter().enumerate() {
        let text = prose(&format!("w{n}x"), 1000);
        let file = stack
            .client
            .upload(&format!("page-{n}.md"), &text, strategy)
            .await;
        stack.client.link(&index, &file).await;
    }
    index
}

async fn built(stack: &Stack, index: &str) {
    let client = &stack.client;
    let job = client.finished(&client.build(index).await, LIMIT).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    for item in client.provider_files(index).await {
        assert_eq!(item["status"], "completed", "{item}");
        assert_eq!(item["attachments"].as_array().unwrap().len(), 1, "{item}");
    }
    assert_no_orphans(stack).await;
}

/// Per file: was the strategy that was asked for applied?
async fn applied(stack: &Stack, index: &str) -> Vec<Value> {
    let files = stack.client.provider_files(index).await;
    let applied = files
        .iter()
        .map(|file| file["attachments"][0]["chunking_strategy_applied"].clone());
    applied.collect()
}

fn chunks(stack: &Stack) -> Vec<usize> {
    let mut files = stack.control().state().stores.remove(0).files;
    files.sort_by(|a, b| a.filename.cmp(&b.filename));
    files.iter().map(|file| file.chunks).collect()
}

#[tokio::test]
async fn mixed_strategies_end_right_where_they_are_taken() {
    for (provider, profile) in [("openai", Profile::Openai), ("sentralix", Profile::Sentralix)] {
        let stack = stack(provider, Emulator::builder().profile(profile)).await;
        let _worker = stack.worker("worker");
        let index = mixed_index(&stack, provider).await;
        built(&stack, &index).await;
        let [fine, same, coarse, auto, none, other] = chunks(&stack)[..] else {
            panic!("six files");
        };
        assert!(
            fine == same && fine > auto && auto > coarse && none == auto && other == auto,
            "{provider}"
        );
        let applied = applied(&stack, &index).await;
        assert_eq!(
            applied,
            [
                json!(true),
                json!(true),
                json!(true),
                json!(true),
                Value::Null,
                Value::Null
            ]
        );
        assert_eq!(effects(&stack, Effect::Attached).len(), 6);
    }
}

/// Yandex refuses strategies with a bare 500: the files get in without, and their view says so.
#[tokio::test]
async fn refused_strategies_are_told_and_fail_nothing() {
    let stack = stack("yandex", Emulator::builder().profile(Profile::Yandex)).await;
    let _worker = stack.worker("worker");
    let index = mixed_index(&stack, "yandex").await;
    built(&stack, &index).await;
    let told = applied(&stack, &index).await;
    assert_eq!(
        told,
        [
            json!(false),
            json!(false),
            json!(false),
            json!(false),
            Value::Null,
            Value::Null
        ]
    );
    assert_eq!(effects(&stack, Effect::Attached).len(), 6);

    // What could not be had is not asked for again and again.
    built(&stack, &index).await;
    assert_eq!(effects(&stack, Effect::Attached).len(), 6);
    assert_eq!(effects(&stack, Effect::Detached).len(), 0);
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 6);
}

/// the copy's row holds what the store calls the file; what the Files API calls it is kept beside.
#[tokio::test]
async fn a_store_may_call_a_file_otherwise_than_the_files_api() {
    let stack = stack(
        "yandex",
        Emulator::builder().profile(Profile::Yandex).store_file_ids(),
    )
    .await;
    let _worker = stack.worker("worker");
    let index = mixed_index(&stack, "yandex").await;
    built(&stack, &index).await;
    for file in stack.client.provider_files(&index).await {
        let attachment = &file["attachments"][0];
        assert_eq!(
            file["upload"]["external_file_id"],
            attachment["external_store_file_id"]
        );
        let expected = format!("vsf{}", attachment["external_file_id"].as_str().unwrap());
        assert_eq!(attachment["external_store_file_id"], expected, "{file}");
    }
    let ids: Vec<(String, String)> = sqlx::query_as(
        "SELECT files_api_id, JSON_VALUE(raw_provider_json, '$.id') FROM rag_provider_file_uploads",
    )
    .fetch_all(&stack.database.pool)
    .await
    .unwrap();
    assert!(
        ids.len() == 6 && ids.iter().all(|(column, raw)| column == raw),
        "{ids:?}"
    );

    // Nothing is uploaded or attached twice, a changed file takes the old one's place, an unlinked one leaves.
    built(&stack, &index).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 6);
    let files = stack.client.provider_files(&index).await;
    let id = |n: usize| files[n]["file"]["id"].as_str().unwrap();
    stack.client.replace(id(0), &prose("changed", 60)).await;
    stack.client.unlink(&index, id(5)).await;
    built(&stack, &index).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 7);
    assert_eq!(effects(&stack, Effect::Detached).len(), 2);
    assert_eq!(stack.control().state().stores[0].files.len(), 5);
}

/// An attach was carried out, its answer was lost, and the store's list does not show it yet: it is asked for again, and
/// "already" is no error.
#[tokio::test]
async fn attached_already_is_attached() {
    let stack = stack("yandex", Emulator::builder().profile(Profile::Yandex)).await;
    let lost = Action::LoseAnswer { how: Loss::Close };
    stack
        .control()
        .add_fault(once("vector_stores.file_batches.create", 2, lost))
        .unwrap();
    let stale = Action::EmptyPage { has_more: false };
    stack
        .control()
        .add_fault(once("vector_stores.files.list", 1, stale))
        .unwrap();
    let _worker = stack.worker("worker");
    let index = mixed_index(&stack, "yandex").await;
    built(&stack, &index).await;
    assert_eq!(effects(&stack, Effect::Attached).len(), 6);
    assert_eq!(effects(&stack, Effect::Detached).len(), 0);
}

fn once(operation: &str, nth: u64, then: Action) -> Rule {
    Rule {
        when: When {
            operation: Some(operation.to_owned()),
            nth: Some(nth),
            times: Some(1),
            ..When::default()
        },
        then,
    }
}
