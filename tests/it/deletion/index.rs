//! indexes that are deleted, and what is left of them at the provider.

use std::time::Duration;

use rag_emulator::{Action, Effect, Emulator, Loss, Rule};
use rag_tests::{Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::{LIMIT, delete};
use crate::fixtures::indexes::{built_with, index_with, prose};
use crate::fixtures::jobs::{done, retry_now};
use crate::fixtures::ledger::{assert_no_orphans, effects};
use crate::fixtures::rows::count;

#[tokio::test]
async fn an_index_takes_its_store_and_the_copies_that_nobody_else_needs() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = built_with(&stack, 4).await;
    let other = client.create_index("other", "openai").await;
    client.link(&other, &files[0]).await;
    client.finished(&client.build(&other).await, LIMIT).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 4);

    client
        .in_domain("other")
        .delete(&format!("/indexes/{index}"))
        .await
        .expect(404);
    let job = delete(&stack, &format!("/indexes/{index}")).await;
    assert_eq!(job["kind"], "index_delete", "{job}");
    // Hidden at once, whatever the job does.
    for path in ["", "/status", "/files", "/provider-files"] {
        client.get(&format!("/indexes/{index}{path}")).await.expect(404);
    }
    client
        .post(&format!("/indexes/{index}/build"), &json!({}))
        .await
        .expect(404);
    client.delete(&format!("/indexes/{index}")).await.expect(404);
    let job = done(&stack, &job).await;
    assert_eq!(job["output"]["deleted"], true, "{job}");

    let state = stack.control().state();
    assert_eq!((state.stores.len(), state.files.len()), (1, 1), "{state:?}");
    assert_eq!(&*state.files[0].filename, "page-0.md", "the shared copy stays");
    assert_no_orphans(&stack).await;
    for table in ["rag_index_files", "rag_index_builds", "rag_indexes"] {
        let sql = match table {
            "rag_index_files" => "SELECT COUNT(*) FROM rag_index_files",
            "rag_index_builds" => "SELECT COUNT(*) FROM rag_index_builds",
            _ => "SELECT COUNT(*) FROM rag_indexes",
        };
        assert_eq!(count(&stack, sql).await, 1, "{table}: the other index alone");
    }
    for file in &files {
        client.get(&format!("/files/{file}")).await.expect(200);
    }
    // They can go up again.
    let again = client.create_index("again", "openai").await;
    client.link(&again, &files[3]).await;
    let job = client.finished(&client.build(&again).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn what_never_reached_a_provider_goes_at_once_and_who_waits_gets_204() {
    let stack = Stack::start().await;
    let client = &stack.client;
    let (never, _) = index_with(&stack, 1).await;
    // A build that no worker has begun is cancelled with it.
    let job = client.build(&never).await;
    let answer = client.delete(&format!("/indexes/{never}")).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(client.job(&job).await["state"], "cancelled");
    client
        .post(&format!("/jobs/{job}/retry"), &json!({}))
        .await
        .expect(409);

    let _worker = stack.worker("worker");
    let (index, _) = built_with(&stack, 2).await;
    let request = client
        .request(Method::DELETE, &format!("/indexes/{index}"))
        .header("Prefer", "wait=20");
    let answer = client.send(request).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert!(stack.control().state().stores.is_empty());
}

#[tokio::test]
async fn a_running_build_is_stopped_and_what_it_made_is_deleted() {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(200, 0.0))
        .start()
        .await;
    stack
        .control()
        .add_fault(Rule::on("files.create", Action::Delay { ms: 400 }))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 40).await;
    let build = stack.client.build(&index).await;
    eventually("some uploads", LIMIT, || async {
        (effects(&stack, Effect::FileCreated).len() >= 3).then_some(())
    })
    .await;
    let job = delete(&stack, &format!("/indexes/{index}")).await;
    let build = stack.client.finished(&build, LIMIT).await;
    assert_eq!(build["state"], "cancelled", "{build}");
    done(&stack, &job).await;
    assert!(effects(&stack, Effect::FileCreated).len() < files.len());
    eventually("a clean provider", LIMIT, || async {
        let state = stack.control().state();
        // An upload that was cut off may have taken effect all the same.
        let lost = "SELECT COUNT(*) FROM rag_provider_ownership WHERE kind = 'file' AND external_id IS NULL";
        let spare = count(&stack, lost).await;
        (state.stores.is_empty() && i64::try_from(state.files.len()).unwrap() <= spare).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_store_whose_creation_was_not_confirmed_goes_with_its_index() {
    let stack = Stack::start().await;
    let lost = Action::LoseAnswer { how: Loss::Hang };
    let lost = Rule::on("vector_stores.create", lost).times(1);
    stack.control().add_fault(lost).unwrap();
    let worker = stack.worker("killed");
    let (index, _) = index_with(&stack, 1).await;
    stack.client.build(&index).await;
    eventually("the store", LIMIT, || async {
        (effects(&stack, Effect::StoreCreated).len() == 1).then_some(())
    })
    .await;
    worker.kill().await;
    let row = stack.client.index(&index).await;
    assert_eq!(row["external_id"], json!(null), "we never heard of it: {row}");
    let job = delete(&stack, &format!("/indexes/{index}")).await;
    let _second = stack.worker("second");
    done(&stack, &job).await;
    assert!(stack.control().state().stores.is_empty());
    assert_eq!(effects(&stack, Effect::StoreDeleted).len(), 1);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_deletion_survives_its_worker_and_a_failing_provider() {
    let stack = Stack::start().await;
    // The job itself is to meet the failures, not maintenance.
    let alone = [("DELETIONS_EVERY_SECONDS", "3600")];
    let worker = stack.worker_with("killed", &alone);
    let (index, files) = built_with(&stack, 6).await;
    let control = stack.control();
    control
        .add_fault(Rule::on("files.delete", Action::Delay { ms: 150 }))
        .unwrap();
    let job = delete(&stack, &format!("/indexes/{index}")).await;
    eventually("some deletions", LIMIT, || async {
        (effects(&stack, Effect::FileDeleted).len() >= 2).then_some(())
    })
    .await;
    worker.kill().await;
    control.clear_faults();
    control
        .add_fault(Rule::on("files.delete", Action::refuse(500)).times(6))
        .unwrap();
    let _second = stack.worker_with("second", &alone);
    let job = done(&stack, &job).await;
    assert!(
        job["attempts"].as_u64().unwrap() >= 1,
        "failures are counted: {job}"
    );
    assert_eq!(effects(&stack, Effect::FileDeleted).len(), files.len());
    assert!(control.state().files.is_empty());
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_deletion_waits_for_its_connection_where_admins_see_it() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = built_with(&stack, 1).await;
    let (lost, _) = built_with(&stack, 1).await;
    let connection = "/admin/providers/connections/openai";
    let admin = &stack.admin;
    admin
        .patch(connection, &json!({"is_enabled": false}))
        .await
        .expect(200);
    let job = delete(&stack, &format!("/indexes/{index}")).await;
    let forgotten = delete(&stack, &format!("/indexes/{lost}")).await;
    let deletions = "/admin/providers/openai/deletions";
    let seen = eventually("both to wait", LIMIT, || async {
        let seen = admin.get(deletions).await.expect(200);
        let items = seen["items"].as_array().unwrap();
        let waits = |item: &Value| {
            item["job"]["waiting"]["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("switched off"))
        };
        (items.len() == 2 && items.iter().all(waits)).then_some(seen)
    })
    .await;
    assert_eq!(seen["items"][0]["index_id"], json!(index), "{seen}");
    assert_eq!(seen["items"][0]["domain_id"], "acme");
    assert_eq!(
        seen["items"][0]["job"]["attempts"], 0,
        "waiting is no failure: {seen}"
    );

    // Given up: nobody is asked, nothing is deleted.
    admin.delete(&format!("{deletions}/{lost}")).await.expect(204);
    admin.delete(&format!("{deletions}/{lost}")).await.expect(404);
    admin
        .patch(connection, &json!({"is_enabled": true}))
        .await
        .expect(200);
    retry_now(&stack.client, job["id"].as_str().unwrap()).await;
    done(&stack, &job).await;
    stack
        .client
        .finished(forgotten["id"].as_str().unwrap(), LIMIT)
        .await;
    let left = stack.control().state();
    assert_eq!(left.stores.len(), 1, "the one that was given up: {left:?}");
    assert_eq!(admin.get(deletions).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_deletion_whose_job_was_cancelled_gets_another_one() {
    let stack = Stack::start().await;
    let worker = stack.worker("worker");
    let (index, _) = built_with(&stack, 1).await;
    worker.kill().await;
    let job = delete(&stack, &format!("/indexes/{index}")).await;
    let path = format!("/jobs/{}/cancel", job["id"].as_str().unwrap());
    stack.client.post(&path, &json!({})).await.expect(200);
    let _second = stack.worker("second");
    eventually("the deletion", Duration::from_mins(2), || async {
        stack.control().state().stores.is_empty().then_some(())
    })
    .await;
}

/// "Absent" of what was made a moment ago means "not visible yet": it would stay for ever if it were believed.
#[tokio::test]
async fn a_store_that_the_provider_does_not_show_yet_is_deleted_when_it_does() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = built_with(&stack, 1).await;
    let hidden = Action::HideNew { seconds: 6.0 };
    stack
        .control()
        .add_fault(Rule::on("vector_stores.delete", hidden))
        .unwrap();
    let job = delete(&stack, &format!("/indexes/{index}")).await;
    let id = job["id"].as_str().unwrap();
    eventually("a wait", LIMIT, || async {
        let job = stack.client.job(id).await;
        let reason = job["waiting"]["reason"].as_str().unwrap_or_default();
        reason.contains("does not show yet").then_some(())
    })
    .await;
    let job = done(&stack, &job).await;
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(effects(&stack, Effect::StoreDeleted).len(), 1);
    assert_no_orphans(&stack).await;
}

/// One deletion that always fails neither keeps others waiting, nor the build that comes across it.
#[tokio::test]
async fn a_deletion_that_always_fails_stands_in_nobodys_way() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = built_with(&stack, 3).await;
    let mut never = Rule::on("files.delete", Action::refuse(500));
    never.when.filename = Some("page-0".to_owned());
    stack.control().add_fault(never).unwrap();
    for (n, file) in files.iter().enumerate() {
        client.replace(file, &prose(&format!("new{n}x"), 50)).await;
    }
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        effects(&stack, Effect::FileDeleted).len(),
        2,
        "the others are gone"
    );
    let waiting: (String, u32, bool) =
        sqlx::query_as("SELECT operation, tries, due_at > UTC_TIMESTAMP(6) FROM rag_provider_intents")
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
    assert_eq!(
        (waiting.0.as_str(), waiting.1, waiting.2),
        ("delete_file", 1, true)
    );
}
