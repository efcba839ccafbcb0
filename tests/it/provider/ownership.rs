//! A name and a size prove nothing: what strangers, other tenants and older versions have at the provider is never served as
//! ours, and never deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use rag_emulator::{Action, Loss, Rule, When};
use rag_tests::Stack;
use serde_json::json;

use crate::fixtures::external_changes::Other;
use crate::fixtures::jobs::search_orphans;
use crate::fixtures::ledger::{assert_no_orphans, spare_copies};

const LIMIT: Duration = Duration::from_mins(1);
const NAME: &str = "handbook.md";

pub(crate) fn lose(stack: &Stack, times: u64, then: Action) {
    let when = When {
        operation: Some("files.create".to_owned()),
        times: Some(times),
        ..When::default()
    };
    stack.control().add_fault(Rule { when, then }).unwrap();
}

pub(crate) fn answer(status: u16, after_effect: bool) -> Action {
    Action::Respond {
        status,
        headers: BTreeMap::default(),
        body: None,
        text: None,
        after_effect,
    }
}

/// Another program on the same account.
pub(crate) async fn stranger(stack: &Stack, content: &str) -> String {
    Other::at(stack).create_file(NAME, content.as_bytes()).await
}

pub(crate) async fn linked(client: &rag_tests::Client, content: &str) -> (String, String) {
    let index = client.create_index("handbook", "openai").await;
    let file = client.upload(NAME, content.as_bytes(), None).await;
    client.link(&index, &file).await;
    (index, file)
}

pub(crate) async fn built(client: &rag_tests::Client, index: &str) {
    let job = client.finished(&client.build(index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
}

/// What the index finds.
pub(crate) async fn found(client: &rag_tests::Client, index: &str) -> String {
    let path = format!("/indexes/{index}/search");
    let answer = client.post(&path, &json!({"query": "the word is"})).await;
    answer.expect(200).to_string()
}

pub(crate) fn is_there(stack: &Stack, id: &str) -> bool {
    let state = stack.control().state();
    state.files.iter().any(|file| file.id.to_string() == id)
}

async fn delete(client: &rag_tests::Client, path: &str) {
    let answer = client.delete(path).await;
    if answer.status == 204 {
        // No provider has anything of it.
        return;
    }
    let job = answer.expect(202);
    let job = client.finished(job["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["state"], "done", "{job}");
}

#[tokio::test]
async fn a_strangers_file_of_our_name_and_size_is_neither_served_nor_deleted() {
    let stack = Stack::builder()
        .setting("ORPHANS_MIN_AGE_SECONDS", "1")
        .start()
        .await;
    let client = &stack.client;
    let theirs = stranger(&stack, "the word is secret").await;
    lose(&stack, 1, answer(503, false));
    let _worker = stack.worker("worker");
    let (index, file) = linked(client, "the word is public").await;
    built(client, &index).await;
    let text = found(client, &index).await;
    assert!(text.contains("public") && !text.contains("secret"), "{text}");
    delete(client, &format!("/indexes/{index}")).await;
    delete(client, &format!("/files/{file}")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = search_orphans(&stack, "openai", "delete", &json!({})).await;
    assert_eq!(report["files"]["unproven"], 1, "{report}");
    assert!(is_there(&stack, &theirs), "{report}");
    assert_eq!(spare_copies(&stack).await, [theirs]);
}

#[tokio::test]
async fn a_file_that_is_deleted_while_its_upload_is_lost_takes_no_strangers_file_along() {
    let stack = Stack::start().await;
    let client = &stack.client;
    lose(&stack, 1, Action::LoseRequest { how: Loss::Hang });
    let worker = stack.worker("killed");
    let (index, file) = linked(client, "the word is public").await;
    let job = client.build(&index).await;
    rag_tests::eventually("the upload", LIMIT, || async {
        (stack.control().faults()[0].fired == 1).then_some(())
    })
    .await;
    worker.kill().await;
    let theirs = stranger(&stack, "the word is secret").await;
    client.unlink(&index, &file).await;
    let deletion = client.delete(&format!("/files/{file}")).await.expect(202);
    let _second = stack.worker("second");
    client.finished(&job, LIMIT).await;
    let deletion = client.finished(deletion["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(deletion["state"], "done", "{deletion}");
    assert!(is_there(&stack, &theirs));
    assert_eq!(spare_copies(&stack).await, [theirs]);
}

/// Its worker is killed amid the upload.
pub(crate) async fn killed_amid_the_upload(stack: &Stack, times: u64) {
    let worker = stack.worker(&format!("killed{times}"));
    rag_tests::eventually("the upload", LIMIT, || async {
        (stack.control().faults()[0].fired == times).then_some(())
    })
    .await;
    worker.kill().await;
}

#[tokio::test]
async fn an_upload_of_one_tenant_that_lands_late_is_never_anothers() {
    let stack = Stack::start().await;
    let other = stack.client.in_domain("globex");
    lose(&stack, 1, Action::LoseRequest { how: Loss::Hang });
    let (index, _) = linked(&stack.client, "the word is one's").await;
    let job = stack.client.build(&index).await;
    killed_amid_the_upload(&stack, 1).await;
    let cancel = format!("/jobs/{job}/cancel");
    stack.client.post(&cancel, &json!({})).await.expect(202);
    // Now it lands, and the answer to the other's upload is lost.
    let late = stranger(&stack, "the word is one's").await;
    lose(&stack, 1, answer(503, false));
    let _second = stack.worker("second");
    let (index, _) = linked(&other, "the word is two's").await;
    built(&other, &index).await;
    let text = found(&other, &index).await;
    assert!(text.contains("two's") && !text.contains("one's"), "{text}");
    assert!(is_there(&stack, &late));
}

#[tokio::test]
async fn an_old_version_that_lands_late_is_never_served_as_the_new_one() {
    let stack = Stack::start().await;
    let client = &stack.client;
    lose(&stack, 2, Action::LoseRequest { how: Loss::Hang });
    let (index, file) = linked(client, "the word is old").await;
    let job = client.build(&index).await;
    killed_amid_the_upload(&stack, 1).await;
    client.replace(&file, b"the word is new").await;
    killed_amid_the_upload(&stack, 2).await;
    stranger(&stack, "the word is old").await;
    let _third = stack.worker("third");
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let text = found(client, &index).await;
    assert!(text.contains("new") && !text.contains("old"), "{text}");
    assert_no_orphans(&stack).await;
}
