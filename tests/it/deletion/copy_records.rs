//! what rows say of copies that were deleted, and what admins set in them.

use rag_emulator::{Action, Effect, Rule};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use super::{LIMIT, delete};
use crate::fixtures::indexes::built_with;
use crate::fixtures::indexes::prose;
use crate::fixtures::jobs::done;
use crate::fixtures::ledger::{assert_no_orphans, effects};
use crate::fixtures::rows::make_deletions_due;

/// A copy that is deleted leaves a record, and a later upload takes it up.
#[tokio::test]
async fn copies_that_are_deleted_stay_on_record() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (client, admin) = (&stack.client, &stack.admin);
    let file = client.upload("a.md", &prose("a", 50), None).await;
    let uploads = format!("/files/{file}/provider-uploads");
    let upload = client
        .post(&format!("{uploads}/openai"), &json!({}))
        .await
        .expect(202);
    done(&stack, &upload).await;
    let row = client.get(&format!("{uploads}/openai")).await.expect(200);
    let list = "/admin/providers/openai/file-uploads";
    let path = format!("{list}/{}", row["id"].as_str().unwrap());

    // The provider fails at first: the record says so.
    stack
        .control()
        .add_fault(Rule::on("files.delete", Action::refuse(500)))
        .unwrap();
    admin.delete(&path).await.expect(204);
    let seen = admin.get(&path).await.expect(200);
    assert_eq!(
        (&seen["status"], &seen["external_file_id"], &seen["deleted_at"]),
        (&json!("deleted"), &row["external_file_id"], &Value::Null),
        "{seen}"
    );
    // Readers are not bothered with it, unless they ask.
    assert_eq!(client.get(&uploads).await.expect(200)["items"], json!([]));
    client.get(&format!("{uploads}/openai")).await.expect(404);
    assert_eq!(
        admin.get(list).await.expect(200)["items"],
        json!([]),
        "not among the others"
    );
    let asked = admin.get(&format!("{list}?status=deleted")).await.expect(200);
    assert_eq!(asked["items"][0]["id"], row["id"], "{asked}");
    admin.get(&format!("{list}?status=lost")).await.expect(400);
    // A build tries what waits there, or a worker's maintenance that came first.
    let (index, _) = built_with(&stack, 1).await;
    let failed = eventually("an error in the record", LIMIT, || async {
        let row = admin.get(&path).await.expect(200);
        row["last_error"].is_string().then_some(row)
    })
    .await;
    assert!(failed["last_error"].as_str().unwrap().contains("500"), "{failed}");
    assert_eq!(failed["deleted_at"], Value::Null, "{failed}");
    stack.control().clear_faults();
    make_deletions_due(&stack).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    // The build's or, if it came first, a worker's maintenance.
    let gone = eventually("the deletion", LIMIT, || async {
        let gone = admin.get(&path).await.expect(200);
        gone["deleted_at"].is_string().then_some(gone)
    })
    .await;
    assert_eq!(
        (&gone["status"], &gone["last_error"]),
        (&json!("deleted"), &Value::Null),
        "{gone}"
    );
    assert_eq!(stack.control().state().files.len(), 1, "the index's own is left");

    // Up again: the same row, another copy.
    let upload = client
        .post(&format!("{uploads}/openai"), &json!({}))
        .await
        .expect(202);
    done(&stack, &upload).await;
    let again = client.get(&format!("{uploads}/openai")).await.expect(200);
    assert_eq!((&again["id"], &again["status"]), (&row["id"], &json!("uploaded")));
    assert_ne!(again["external_file_id"], row["external_file_id"]);
    assert_eq!(again["deleted_at"], Value::Null, "{again}");

    // With the file its copies go, and the record stays.
    let job = delete(&stack, &format!("/files/{file}")).await;
    done(&stack, &job).await;
    let seen = admin.get(&path).await.expect(200);
    assert_eq!(
        (&seen["status"], seen["deleted_at"].is_string()),
        (&json!("deleted"), true),
        "{seen}"
    );
    admin
        .patch(&path, &json!({"status": "pending"}))
        .await
        .expect(409);
    assert_eq!(stack.control().state().files.len(), 1);
    assert_no_orphans(&stack).await;
    // An admin may do away with a record.
    admin.delete(&path).await.expect(204);
    admin.get(&path).await.expect(404);
}

#[tokio::test]
async fn admins_set_what_rows_of_copies_say() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (client, admin) = (&stack.client, &stack.admin);
    let (index, files) = built_with(&stack, 2).await;
    let list = "/admin/providers/openai/file-uploads";
    let copy = async |file: &str| {
        client
            .get(&format!("/files/{file}/provider-uploads/openai"))
            .await
            .expect(200)
    };
    let (first, other) = (copy(&files[0]).await, copy(&files[1]).await);
    let path = format!("{list}/{}", first["id"].as_str().unwrap());
    let refused = [
        (json!({"status": "lost"}), 422),
        (json!({"status": "pending", "last_error": "x"}), 422),
        (json!({"status": "failed", "external_file_id": "file-x"}), 422),
        (json!({"status": "uploaded", "external_file_id": " "}), 422),
        (
            json!({"status": "uploaded", "external_file_id": other["external_file_id"]}),
            409,
        ),
    ];
    for (body, status) in refused {
        let answer = admin.patch(&path, &body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    let failed = admin
        .patch(
            &path,
            &json!({"status": "failed", "last_error": "not to be indexed"}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&failed["status"], &failed["last_error"]),
        (&json!("failed"), &json!("not to be indexed"))
    );
    let back = admin
        .patch(&path, &json!({"status": "uploaded"}))
        .await
        .expect(200);
    assert_eq!(
        (&back["status"], &back["external_file_id"], &back["last_error"]),
        (&json!("uploaded"), &first["external_file_id"], &Value::Null),
        "{back}"
    );
    let uploads = effects(&stack, Effect::FileCreated).len();
    client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        uploads,
        "all is as it was"
    );

    // Somebody has deleted it at the provider: the record says so, and the next build brings another.
    let gone = admin
        .patch(&path, &json!({"status": "deleted"}))
        .await
        .expect(200);
    assert_eq!(gone["status"], "deleted", "{gone}");
    assert!(gone["deleted_at"].is_string());
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let new = copy(&files[0]).await;
    assert_eq!(new["id"], first["id"]);
    assert_ne!(new["external_file_id"], first["external_file_id"]);
    assert_no_orphans(&stack).await;
}
