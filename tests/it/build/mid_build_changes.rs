//! What changes between two steps of a build: the composition of the index, the provider, or who has the job.

use std::time::Duration;

use rag_emulator::{Action, Effect, Loss, Rule};
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::json;

use crate::fixtures::faults::hold;
use crate::fixtures::indexes::{fixed, index_with};
use crate::fixtures::ledger::{assert_no_orphans, effects};
use crate::fixtures::rows::execute;

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_store_that_vanishes_amid_a_build_ends_it() {
    let stack = Stack::start().await;
    stack
        .control()
        .add_fault(hold("files.create", "uploads"))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 2).await;
    let job = stack.client.build(&index).await;
    let store = eventually("the store", LIMIT, || async {
        let row = stack.client.index(&index).await;
        row["external_id"].as_str().map(str::to_owned)
    })
    .await;
    let url = format!("{}/vector_stores/{store}", stack.emulator.url());
    let answer = reqwest::Client::new()
        .delete(&url)
        .bearer_auth(PROVIDER_KEY)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{url}: {answer:?}");
    // Older than the time in which a store may merely not be visible yet.
    execute(
        &stack,
        "UPDATE rag_indexes SET updated_at = updated_at - INTERVAL 1 HOUR",
    )
    .await;
    execute(
        &stack,
        "UPDATE rag_provider_ownership SET resolved_at = resolved_at - INTERVAL 1 HOUR",
    )
    .await;
    stack.control().open_gate("uploads");

    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["state"], "failed", "{job}");
    let row = stack.client.index(&index).await;
    assert!(
        row["last_error"].as_str().unwrap().contains("no longer exists"),
        "{row}"
    );
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        files.len(),
        "the files are not lost, only the store is"
    );
}

#[tokio::test]
async fn an_upload_that_nobody_wants_any_more_is_cleaned_up() {
    let stack = Stack::start().await;
    let lost = Rule::on("files.create", Action::LoseAnswer { how: Loss::Hang })
        .from_nth(2)
        .times(1);
    stack.control().add_fault(lost).unwrap();
    let worker = stack.worker("killed");
    let (index, _) = index_with(&stack, 3).await;
    let job = stack.client.build(&index).await;
    let unconfirmed = eventually("the last unfinished upload", LIMIT, || async {
        let open: Vec<String> =
            sqlx::query_scalar("SELECT subject FROM rag_provider_intents WHERE operation = 'upload_file'")
                .fetch_all(&stack.database.pool)
                .await
                .unwrap();
        (effects(&stack, Effect::FileCreated).len() == 3 && open.len() == 1).then(|| open[0].clone())
    })
    .await;
    worker.kill().await;
    stack.client.unlink(&index, &unconfirmed).await;
    let answer = stack.client.delete(&format!("/files/{unconfirmed}")).await;
    assert_eq!(
        answer.status, 202,
        "a provider may have a copy, which a job looks for: {answer:?}"
    );
    let deletion = answer.body["id"].as_str().unwrap().to_owned();

    let _second = stack.worker("second");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let deletion = stack.client.finished(&deletion, LIMIT).await;
    assert_eq!(deletion["state"], "done", "{deletion}");
    assert_no_orphans(&stack).await;
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_files WHERE id = ?")
        .bind(&unconfirmed)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_strategy_that_changes_amid_a_build_spends_no_attempt() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 2).await;
    client.finished(&client.build(&index).await, LIMIT).await;

    stack
        .control()
        .add_fault(hold("vector_stores.files.delete", "detaching"))
        .unwrap();
    let strategy = json!({"chunking_strategy": fixed(200, 0)});
    client
        .patch(&format!("/files/{}", files[0]), &strategy)
        .await
        .expect(200);
    let job = client.build(&index).await;
    eventually("room to be made", LIMIT, || async {
        let leaving: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM rag_index_attachments WHERE state = 'detaching'")
                .fetch_one(&stack.database.pool)
                .await
                .unwrap();
        (leaving == 1).then_some(())
    })
    .await;
    client
        .patch(&format!("/files/{}", files[1]), &strategy)
        .await
        .expect(200);
    stack.control().open_gate("detaching");
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(effects(&stack, Effect::Attached).len(), 4);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn builds_that_wait_do_not_hide_one_whose_job_is_gone() {
    let stack = Stack::start().await;
    let (index, _) = index_with(&stack, 1).await;
    let pool = &stack.database.pool;
    // Rows that maintenance has to pass over, older than the one that it has to repair.
    for n in 0..250 {
        insert_build(&stack, &format!("waiting-{n}"), &index, 60).await;
    }
    let gone = "ffffffff-ffff-7fff-bfff-ffffffffffff";
    insert_build(&stack, gone, &index, 10).await;
    sqlx::query("UPDATE rag_indexes SET indexing_status = 'in_progress' WHERE id = ?")
        .bind(&index)
        .execute(pool)
        .await
        .unwrap();
    let _worker = stack.worker("worker");
    eventually("the end of the build", Duration::from_secs(30), || async {
        (stack.client.index(&index).await["indexing_status"] == "failed").then_some(())
    })
    .await;
}

async fn insert_build(stack: &Stack, job: &str, index: &str, seconds_ago: u32) {
    sqlx::query(
        "INSERT INTO rag_index_builds (job_id, index_id, domain_id, step, started_at, updated_at) \
         VALUES (?, ?, 'acme', 'await_indexing', UTC_TIMESTAMP(6) - INTERVAL ? SECOND, UTC_TIMESTAMP(6) - INTERVAL ? SECOND)",
    )
    .bind(job)
    .bind(index)
    .bind(seconds_ago)
    .bind(seconds_ago)
    .execute(&stack.database.pool)
    .await
    .unwrap();
}
