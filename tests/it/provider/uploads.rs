//! Copies of files at providers, asked for one by one, and what admins see of them.

use std::time::Duration;

use rag_db::uploads;
use rag_emulator::{Action, Effect, Loss, RetryAfter, Rule, When};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::indexes::{index_with, prose};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_secs(30);

async fn uploaded(stack: &Stack, file: &str) -> Value {
    let path = format!("/files/{file}/provider-uploads/openai");
    let job = stack.client.post(&path, &json!({})).await.expect(202);
    let job = stack.client.finished(job["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(
        (&job["kind"], &job["state"]),
        (&json!("file_upload"), &json!("done")),
        "{job}"
    );
    let copy = stack.client.get(&path).await.expect(200);
    assert_eq!(
        job["output"]["external_file_id"], copy["external_file_id"],
        "{job}"
    );
    assert_eq!(copy["status"], "uploaded", "{copy}");
    copy
}

#[tokio::test]
async fn a_file_is_uploaded_once_per_content() {
    let stack = Stack::start().await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    let client = &stack.client;
    let file = client.upload("a.md", &prose("a", 50), None).await;
    let path = format!("/files/{file}/provider-uploads");
    client.get(&format!("{path}/openai")).await.expect(404);
    client
        .post(&format!("{path}/nosuch"), &json!({}))
        .await
        .expect(404);
    client
        .post(&format!("{path}/yandex"), &json!({}))
        .await
        .expect(409);
    client.in_domain("other").get(&path).await.expect(404);
    client
        .in_domain("other")
        .post(&format!("{path}/openai"), &json!({}))
        .await
        .expect(404);

    let first = uploaded(&stack, &file).await;
    assert_eq!(
        uploaded(&stack, &file).await,
        first,
        "the same content goes up once"
    );
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 1);
    let listed = client.get(&path).await.expect(200);
    assert_eq!(listed["items"], json!([first]));

    // A build takes the copy that is there.
    let index = client.create_index("handbook", "openai").await;
    client.link(&index, &file).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 1);

    client.replace(&file, &prose("b", 50)).await;
    let second = uploaded(&stack, &file).await;
    assert_ne!(second["external_file_id"], first["external_file_id"]);
    client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 2);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_refused_upload_fails_its_job_and_says_why() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let file = stack.client.upload("a.md", &prose("a", 50), None).await;
    let rule = Rule::on("files.create", Action::refuse(400)).times(1);
    stack.control().add_fault(rule).unwrap();
    let path = format!("/files/{file}/provider-uploads/openai");
    let job = stack.client.post(&path, &json!({})).await.expect(202);
    let job = stack.client.finished(job["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["state"], "failed", "{job}");
    let copy = stack.client.get(&path).await.expect(200);
    assert_eq!(copy["status"], "failed", "{copy}");
    assert_eq!(copy["last_error"], job["last_error"], "{copy}");
    // Asked for again, it gets its other try.
    uploaded(&stack, &file).await;
}

#[tokio::test]
async fn admins_page_through_what_is_at_a_provider() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let (index, _) = index_with(&stack, 5).await;
    stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    let admin = &stack.admin;
    let stores = admin
        .get("/admin/providers/openai/vector-stores")
        .await
        .expect(200);
    assert_eq!(
        stores["items"][0]["id"],
        stack.client.index(&index).await["external_id"]
    );
    assert_eq!(stores["items"][0]["raw"]["object"], "vector_store", "{stores}");
    assert_eq!(stores["next_cursor"], Value::Null);

    let (mut ids, mut path) = (Vec::new(), "/admin/providers/openai/files?limit=2".to_owned());
    for _ in 0..10 {
        let page = admin.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap();
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/admin/providers/openai/files?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    admin.get("/admin/providers/nosuch/files").await.expect(404);
    admin.get("/admin/providers/yandex/files").await.expect(404);
    admin
        .get("/admin/providers/openai/files?limit=0")
        .await
        .expect(400);
    stack
        .client
        .get("/admin/providers/openai/files")
        .await
        .expect(403);
}

#[tokio::test]
async fn admins_look_after_copies() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let (client, admin) = (&stack.client, &stack.admin);
    let (index, files) = index_with(&stack, 2).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    let base = "/admin/providers/openai/file-uploads";
    let page = admin.get(&format!("{base}?limit=1")).await.expect(200);
    let next = format!("{base}?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    let last = admin.get(&next).await.expect(200);
    assert_eq!(last["next_cursor"], Value::Null, "{last}");
    let id = |page: &Value| page["items"][0]["id"].as_str().unwrap().to_owned();
    assert_ne!(id(&page), id(&last));
    let one = format!("{base}/{}", id(&page));
    assert_eq!(admin.get(&one).await.expect(200), page["items"][0]);

    // A copy that is attached to a store stays.
    admin.delete(&one).await.expect(409);
    assert_eq!(
        admin.patch(&one, &json!({"status": "pending"})).await.expect(200)["status"],
        "pending"
    );
    admin.patch(&one, &json!({"status": "lost"})).await.expect(422);
    client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 3);
    assert_no_orphans(&stack).await;

    for file in &files {
        client.unlink(&index, file).await;
    }
    client.finished(&client.build(&index).await, LIMIT).await;
    let left = admin.get(base).await.expect(200);
    for row in left["items"].as_array().unwrap() {
        admin
            .delete(&format!("{base}/{}", row["id"].as_str().unwrap()))
            .await
            .expect(204);
    }
    // On record, and no more (`copy_records.rs` has the rest).
    assert_eq!(admin.get(&one).await.expect(200)["status"], "deleted");
    assert_eq!(admin.get(base).await.expect(200)["items"], json!([]));

    // Files that somebody else uploaded can be made known, once.
    let known = json!({"local_file_id": files[0], "external_file_id": "file-elsewhere"});
    let row = admin.post(base, &known).await.expect(201);
    assert_eq!(row["status"], "uploaded", "{row}");
    admin.post(base, &known).await.expect(409);
    let stolen = json!({"local_file_id": files[1], "external_file_id": "file-elsewhere"});
    admin.post(base, &stolen).await.expect(409);

    eventually(
        "the deleted copies to be deleted at the provider",
        Duration::from_secs(90),
        || async { stack.control().state().files.is_empty().then_some(()) },
    )
    .await;
}

async fn start(stack: &Stack, file: &str) -> String {
    let path = format!("/files/{file}/provider-uploads/openai");
    let job = stack.client.post(&path, &json!({})).await.expect(202);
    job["id"].as_str().unwrap().to_owned()
}

async fn copy(stack: &Stack, file: &str) -> Value {
    let path = format!("/files/{file}/provider-uploads/openai");
    stack.client.get(&path).await.expect(200)
}

fn on_upload(stack: &Stack, times: Option<u64>, then: Action) {
    let when = When {
        operation: Some("files.create".to_owned()),
        times,
        ..When::default()
    };
    stack.control().add_fault(Rule { when, then }).unwrap();
}

/// whatever error it was, the copy's row ends with the job.
#[tokio::test]
async fn an_upload_that_is_out_of_attempts_has_failed() {
    let stack = Stack::builder().setting("BUILD_MAX_ATTEMPTS", "2").start().await;
    let _worker = stack.worker("one");
    on_upload(&stack, None, Action::LoseRequest { how: Loss::Reset });
    let file = stack.client.upload("a.md", &prose("a", 50), None).await;
    let job = stack.client.finished(&start(&stack, &file).await, LIMIT).await;
    assert_eq!(
        (&job["state"], &job["attempts"]),
        (&json!("failed"), &json!(2)),
        "{job}"
    );
    let failed = copy(&stack, &file).await;
    assert_eq!(
        (&failed["status"], &failed["last_error"]),
        (&json!("failed"), &job["last_error"]),
        "{failed}"
    );
    stack.control().clear_faults();
    uploaded(&stack, &file).await;
    assert_no_orphans(&stack).await;
}

/// Cancelled while it waits, a job ends without its handler: a worker's maintenance ends its copy.
#[tokio::test]
async fn an_upload_that_is_cancelled_while_it_waits_has_failed() {
    let stack = Stack::start().await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    on_upload(
        &stack,
        Some(1),
        Action::RateLimit {
            retry_after: Some(RetryAfter::Seconds(600)),
        },
    );
    let file = stack.client.upload("a.md", &prose("a", 50), None).await;
    let job = start(&stack, &file).await;
    let waits = || async {
        let job = stack.client.job(&job).await;
        (job["state"] == "scheduled").then_some(())
    };
    eventually("the job to wait", LIMIT, waits).await;
    assert_eq!(copy(&stack, &file).await["status"], "pending");
    stack
        .client
        .post(&format!("/jobs/{job}/cancel"), &json!({}))
        .await
        .expect(200);
    let failed = || async {
        let copy = copy(&stack, &file).await;
        (copy["status"] == "failed").then_some(copy)
    };
    let failed = eventually("the copy to have failed", LIMIT, failed).await;
    assert_eq!(failed["last_error"], "the upload was cancelled");
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_provider_upload_jobs")
        .fetch_one(&stack.database.pool)
        .await
        .unwrap();
    assert_eq!(left, 0);

    // A copy that a build looks after is none of a job's that ended.
    let pending = "UPDATE rag_provider_file_uploads SET status = 'pending', last_error = NULL";
    sqlx::query(pending).execute(&stack.database.pool).await.unwrap();
    let index = stack.client.create_index("handbook", "openai").await;
    stack.client.link(&index, &file).await;
    sqlx::query(
        "INSERT INTO rag_index_builds (job_id, index_id, domain_id, step, started_at, updated_at) \
         VALUES (UUID(), ?, 'acme', 'upload_files', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 1 DAY)",
    )
    .bind(&index)
    .execute(&stack.database.pool)
    .await
    .unwrap();
    let mut db = stack.database.pool.acquire().await.unwrap();
    let id = file.parse().unwrap();
    assert!(!uploads::give_up(&mut db, "openai", id, "x").await.unwrap());
    assert_eq!(copy(&stack, &file).await["status"], "pending");
}
