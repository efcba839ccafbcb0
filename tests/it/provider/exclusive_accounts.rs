//! An account that an admin declared to be exclusively ours: what lost uploads left there is proven to be ours by its bytes,
//! and by nothing less.

use std::time::Duration;

use rag_emulator::{Action, Builder, Effect, Emulator, Loss};
use rag_tests::{Client, PROVIDER_KEY, Stack};
use serde_json::json;

use crate::fixtures::jobs::search_orphans;
use crate::fixtures::ledger::{assert_no_orphans, effects, spare_copies};
use crate::provider::ownership::{
    answer, built, found, is_there, killed_amid_the_upload, linked, lose, stranger,
};

const LIMIT: Duration = Duration::from_mins(1);

async fn stack(emulator: Builder, exclusive: bool) -> Stack {
    let stack = Stack::builder()
        .emulator(emulator.indexing(5, 0.0))
        .setting("ORPHANS_MIN_AGE_SECONDS", "1")
        .start()
        .await;
    let connection = json!({
        "auth_type": "api_key", "credentials": {"api_key": PROVIDER_KEY}, "exclusive": exclusive,
    });
    stack.connect_with("openai", connection).await;
    stack
}

/// An answer is lost after the file was made; answers how many files the provider has in the end.
async fn files_after_a_lost_answer(stack: &Stack) -> usize {
    lose(stack, 1, answer(503, true));
    let _worker = stack.worker("worker");
    let (index, _) = linked(&stack.client, "the word is public").await;
    built(&stack.client, &index).await;
    assert!(found(&stack.client, &index).await.contains("public"));
    assert_no_orphans(stack).await;
    stack.control().state().files.len()
}

#[tokio::test]
async fn a_copy_whose_answer_was_lost_is_known_by_its_bytes() {
    let stack = stack(Emulator::builder().allow_content(), true).await;
    assert_eq!(files_after_a_lost_answer(&stack).await, 1);
    assert!(stack.logs().contains("its bytes were compared"));
}

#[tokio::test]
async fn without_the_declaration_or_without_bytes_nothing_is_proven() {
    let shared = stack(Emulator::builder().allow_content(), false).await;
    assert_eq!(files_after_a_lost_answer(&shared).await, 2);
    let silent = stack(Emulator::builder(), true).await;
    assert_eq!(files_after_a_lost_answer(&silent).await, 2);
}

#[tokio::test]
async fn other_bytes_under_our_name_are_not_ours_even_there() {
    let stack = stack(Emulator::builder().allow_content(), true).await;
    let theirs = stranger(&stack, "the word is secret").await;
    lose(&stack, 1, answer(503, false));
    let _worker = stack.worker("worker");
    let (index, _) = linked(&stack.client, "the word is public").await;
    built(&stack.client, &index).await;
    let text = found(&stack.client, &index).await;
    assert!(text.contains("public") && !text.contains("secret"), "{text}");
    assert!(is_there(&stack, &theirs));
}

/// Two tenants have the same text. One upload lands after both of their workers died: whose is it?
#[tokio::test]
async fn what_two_uploads_may_have_brought_is_neithers() {
    let stack = stack(Emulator::builder().allow_content(), true).await;
    let other = stack.client.in_domain("globex");
    lose(&stack, 2, Action::LoseRequest { how: Loss::Hang });
    let mut jobs: Vec<(Client, String, String)> = Vec::new();
    for client in [stack.client.clone(), other] {
        let (index, _) = linked(&client, "the word is common").await;
        let job = client.build(&index).await;
        jobs.push((client, index, job));
    }
    killed_amid_the_upload(&stack, 2).await;
    let late = stranger(&stack, "the word is common").await;
    let _second = stack.worker("second");
    for (client, index, job) in &jobs {
        let job = client.finished(job, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
        assert!(found(client, index).await.contains("common"));
    }
    assert_eq!(spare_copies(&stack).await, [late]);
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 3);
    assert_no_orphans(&stack).await;
}

/// It lands after the file went up again: a spare copy, which a search proves to be ours and removes; a stranger's stays.
#[tokio::test]
async fn a_spare_copy_is_proven_by_its_bytes_and_removed() {
    let stack = stack(Emulator::builder().allow_content(), true).await;
    let theirs = stranger(&stack, "the word is secret").await;
    lose(&stack, 1, answer(503, false));
    let _worker = stack.worker("worker");
    let (index, _) = linked(&stack.client, "the word is public").await;
    built(&stack.client, &index).await;
    let spare = stranger(&stack, "the word is public").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = search_orphans(&stack, "openai", "report", &json!({})).await;
    assert_eq!(report["files"]["orphans"], 1, "{report}");
    let report = search_orphans(&stack, "openai", "delete", &json!({})).await;
    assert_eq!(report["files"]["deleted"], 1, "{report}");
    let items = report["items"].as_array().unwrap();
    let proof = |id: &str| {
        items
            .iter()
            .find(|item| item["id"] == id)
            .map(|item| item["proof"].clone())
    };
    assert_eq!(proof(&spare), Some(json!("bytes")), "{report}");
    assert_eq!(proof(&theirs), Some(json!(null)), "{report}");
    assert!(!is_there(&stack, &spare) && is_there(&stack, &theirs));
    assert!(found(&stack.client, &index).await.contains("public"));
}
