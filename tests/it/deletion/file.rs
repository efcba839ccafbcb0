//! R-B1: files that are deleted leave stores and providers first.

use rag_emulator::{Action, Effect, Rule};
use rag_tests::{Stack, eventually};
use serde_json::json;

use super::{LIMIT, delete};
use crate::fixtures::faults::hold_indexing;
use crate::fixtures::indexes::{built_with, index_with, prose};
use crate::fixtures::jobs::{done, retry_now};
use crate::fixtures::ledger::{assert_no_orphans, effects};
use crate::fixtures::rows::count;

#[tokio::test]
async fn a_file_leaves_stores_and_providers_before_its_contents_go() {
    let stack = Stack::start().await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    let client = &stack.client;
    let (index, files) = built_with(&stack, 3).await;
    let other = client.create_index("other", "openai").await;
    client.link(&other, &files[0]).await;
    client.finished(&client.build(&other).await, LIMIT).await;
    let path = format!("/files/{}", files[0]);

    let refused = client.delete(&path).await.expect(409);
    assert!(
        refused["detail"].as_str().unwrap().contains("2 index(es)"),
        "{refused}"
    );
    client
        .in_domain("other")
        .delete(&format!("{path}?force=true"))
        .await
        .expect(404);
    let job = delete(&stack, &format!("{path}?force=true")).await;
    assert_eq!(job["kind"], "file_delete", "{job}");
    client.get(&path).await.expect(404);
    client.get(&format!("{path}/download")).await.expect(404);
    client
        .post(&format!("/indexes/{other}/files/{}", files[0]), &json!({}))
        .await
        .expect(404);
    let listed = client.get("/files").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(client.provider_files(&index).await.len(), 2);
    done(&stack, &job).await;

    let state = stack.control().state();
    assert_eq!(state.files.len(), 2, "{state:?}");
    assert!(
        state.files.iter().all(|file| &*file.filename != "page-0.md"),
        "{state:?}"
    );
    assert_eq!(count(&stack, "SELECT COUNT(*) FROM rag_files").await, 2);
    assert_no_orphans(&stack).await;
    // Taken out of each store once.
    assert_eq!(effects(&stack, Effect::Detached).len(), 2);
    assert_eq!(
        client.index(&index).await["indexing_status"],
        "done",
        "the index itself is as it was"
    );
}

#[tokio::test]
async fn a_file_that_is_deleted_amid_a_build_leaves_when_the_build_is_over() {
    let stack = Stack::start().await;
    stack.control().add_fault(hold_indexing("page", "build")).unwrap();
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 3).await;
    let build = client.build(&index).await;
    eventually("attachments", LIMIT, || async {
        (effects(&stack, Effect::Attached).len() == 3).then_some(())
    })
    .await;
    let job = delete(&stack, &format!("/files/{}?force=true", files[1])).await;
    stack.control().open_gate("build");
    let build = client.finished(&build, LIMIT).await;
    assert_eq!(build["output"]["indexing_status"], "done", "{build}");
    done(&stack, &job).await;
    assert_eq!(stack.control().state().files.len(), 2);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_file_whose_copy_can_not_be_deleted_keeps_its_contents() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let file = client.upload("a.md", &prose("a", 50), None).await;
    let upload = client
        .post(&format!("/files/{file}/provider-uploads/openai"), &json!({}))
        .await
        .expect(202);
    done(&stack, &upload).await;
    stack
        .control()
        .add_fault(Rule::on("files.delete", Action::refuse(500)))
        .unwrap();
    let job = delete(&stack, &format!("/files/{file}")).await;
    let id = job["id"].as_str().unwrap();
    eventually("a failure", LIMIT, || async {
        (client.job(id).await["attempts"].as_u64() >= Some(1)).then_some(())
    })
    .await;
    assert_eq!(
        count(
            &stack,
            "SELECT COUNT(*) FROM rag_files WHERE deleted_at IS NOT NULL"
        )
        .await,
        1
    );
    assert_eq!(stack.stored_files(), 1, "contents go last");
    stack.control().clear_faults();
    retry_now(client, id).await;
    done(&stack, &job).await;
    assert_eq!(stack.stored_files(), 0);
    assert!(stack.control().state().files.is_empty());
}

#[tokio::test]
async fn a_file_that_can_not_be_deleted_is_seen_by_admins_and_can_be_given_up() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (client, admin) = (&stack.client, &stack.admin);
    let (index, files) = built_with(&stack, 2).await;
    let alone = client.upload("alone.md", &prose("alone", 50), None).await;
    let upload = client
        .post(&format!("/files/{alone}/provider-uploads/openai"), &json!({}))
        .await
        .expect(202);
    done(&stack, &upload).await;
    let deletions = "/admin/files/deletions";
    assert_eq!(admin.get(deletions).await.expect(200)["items"], json!([]));
    assert_eq!(client.get(deletions).await.status, 403, "for admins alone");

    stack
        .control()
        .add_fault(Rule::on("files.delete", Action::refuse(500)))
        .unwrap();
    stack
        .control()
        .add_fault(Rule::on("vector_stores.files.delete", Action::refuse(500)))
        .unwrap();
    let job = delete(&stack, &format!("/files/{alone}")).await;
    delete(&stack, &format!("/files/{}?force=true", files[0])).await;
    let seen = eventually("both to fail", LIMIT, || async {
        let seen = admin.get(deletions).await.expect(200);
        let items = seen["items"].as_array().unwrap();
        (items.len() == 2
            && items[0]["copies"][0]["tries"].as_u64() > Some(0)
            && items[1]["job"]["waiting"]["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("is attached to the vector stores")))
        .then_some(seen)
    })
    .await;
    let item = &seen["items"][0];
    assert_eq!(item["file_id"], json!(alone), "the longest deleted first: {seen}");
    assert_eq!(
        (&item["domain_id"], &item["file_name"]),
        (&json!("acme"), &json!("alone.md"))
    );
    assert_eq!(
        (&item["job"]["id"], &item["attached_to_indexes"]),
        (&job["id"], &json!(0))
    );
    assert_eq!(item["copies"][0]["provider_type"], "openai", "{seen}");
    assert!(
        item["copies"][0]["external_file_id"].is_string() && item["copies"][0]["next_try_at"].is_string()
    );
    assert!(item["last_error"].as_str().unwrap().contains("500"), "{seen}");
    assert!(item["deleted_at"].is_string());
    let attached = &seen["items"][1];
    assert_eq!(attached["attached_to_indexes"], 1, "{seen}");
    // In pages.
    let page = admin.get(&format!("{deletions}?limit=1")).await.expect(200);
    let next = format!(
        "{deletions}?limit=1&cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    let second = admin.get(&next).await.expect(200);
    assert_eq!(second["items"][0]["file_id"], json!(files[0]), "{second}");
    assert_eq!(second["next_cursor"], json!(null));

    // Given up: nothing is deleted at the provider, and everything here.
    assert_eq!(client.delete(&format!("{deletions}/{alone}")).await.status, 403);
    admin.delete(&format!("{deletions}/{index}")).await.expect(404);
    admin
        .delete(&format!("{deletions}/{}", files[1]))
        .await
        .expect(404);
    for file in [&alone, &files[0]] {
        admin.delete(&format!("{deletions}/{file}")).await.expect(204);
        admin.delete(&format!("{deletions}/{file}")).await.expect(404);
    }
    assert_eq!(admin.get(deletions).await.expect(200)["items"], json!([]));
    assert_eq!(stack.stored_files(), 1, "their contents are gone");
    let job = client.finished(job["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(count(&stack, "SELECT COUNT(*) FROM rag_files").await, 1);
    assert_eq!(
        count(
            &stack,
            "SELECT COUNT(*) FROM rag_provider_intents WHERE local_file_id IS NOT NULL"
        )
        .await,
        0
    );
    stack.control().clear_faults();
    // What is still attached leaves with the next build, and its copy with it; the other one stays.
    let build = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(build["output"]["indexing_status"], "done", "{build}");
    eventually("the attached one to leave", LIMIT, || async {
        let mut names: Vec<_> = stack
            .control()
            .state()
            .files
            .iter()
            .map(|file| file.filename.to_string())
            .collect();
        names.sort();
        (names == ["alone.md", "page-1.md"]).then_some(())
    })
    .await;
}
