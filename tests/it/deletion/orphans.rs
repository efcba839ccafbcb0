//! Stores and files that we made at a provider and no row refers to: found, reported, deleted; and nothing else is.

use std::time::Duration;

use rag_emulator::{Action, Effect, Rule, When};
use rag_tests::Stack;
use serde_json::{Value, json};

use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::{built, index_with};
use crate::fixtures::jobs::search_orphans;
use crate::fixtures::ledger::effects;
use crate::fixtures::rows::execute;

const LIMIT: Duration = Duration::from_mins(1);
const ORPHANS: &str = "/admin/providers/openai/orphans";

/// Nothing is young here.
async fn stack(min_age: &str) -> Stack {
    Stack::builder()
        .setting("ORPHANS_MIN_AGE_SECONDS", min_age)
        .start()
        .await
}

async fn search(stack: &Stack, mode: &str) -> Value {
    search_orphans(stack, "openai", mode, &json!({})).await
}

fn verdicts(report: &Value) -> Vec<(String, String)> {
    let mut found: Vec<_> = report["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let text = |field: &str| item[field].as_str().unwrap().to_owned();
            (text("id"), text("verdict"))
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn only_what_is_provably_ours_is_deleted() {
    let stack = stack("1").await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (kept, _) = index_with(&stack, 2).await;
    built(client, &kept).await;
    let (lost, _) = index_with(&stack, 2).await;
    let orphan = built(client, &lost).await;
    // Somebody lost the rows of one index: its store and its copies are orphans.
    sqlx::query("UPDATE rag_indexes SET external_id = NULL WHERE id = ?")
        .bind(&lost)
        .execute(&stack.database.pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM rag_index_attachments WHERE index_id = ?")
        .bind(&lost)
        .execute(&stack.database.pool)
        .await
        .unwrap();
    sqlx::query(
        "DELETE u FROM rag_provider_file_uploads u JOIN rag_index_files l ON l.file_id = u.local_file_id WHERE l.index_id = ?",
    )
    .bind(&lost)
    .execute(&stack.database.pool)
    .await
    .unwrap();
    // Others on the same account: one unlike anything of ours, one whose tags are like ours, one that copies a tag.
    Other::at(&stack)
        .create_file("page-0.md", b"somebody else's")
        .await;
    Other::at(&stack)
        .create_store(&json!({"name": "theirs", "metadata": {}}))
        .await;
    let unknown = uuid::Uuid::new_v4().to_string();
    let stranger = Other::at(&stack)
        .create_store(&json!({"name": "theirs", "metadata": {"rag_intent": unknown, "rag_index_id": kept}}))
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let report = search(&stack, "report").await;
    assert_eq!(report["mode"], "report");
    assert_eq!(
        (&report["stores"]["listed"], &report["stores"]["referenced"]),
        (&json!(4), &json!(1)),
        "{report}"
    );
    assert_eq!(
        (&report["stores"]["orphans"], &report["stores"]["unproven"]),
        (&json!(1), &json!(1)),
        "{report}"
    );
    assert_eq!(
        (&report["files"]["listed"], &report["files"]["orphans"]),
        (&json!(5), &json!(2)),
        "{report}"
    );
    let found = verdicts(&report);
    assert!(found.contains(&(orphan.clone(), "orphan".to_owned())), "{report}");
    assert!(
        found.contains(&(stranger.clone(), "unproven".to_owned())),
        "{report}"
    );
    assert_eq!(effects(&stack, Effect::StoreDeleted).len(), 0);
    assert_eq!(effects(&stack, Effect::FileDeleted).len(), 0);

    let report = search(&stack, "delete").await;
    assert_eq!(
        (&report["stores"]["deleted"], &report["files"]["deleted"]),
        (&json!(1), &json!(2)),
        "{report}"
    );
    let state = stack.control().state();
    assert_eq!((state.stores.len(), state.files.len()), (3, 3), "{state:?}");
    assert!(state.stores.iter().all(|store| store.id.to_string() != orphan));
    let again = search(&stack, "delete").await;
    assert_eq!(
        (&again["stores"]["orphans"], &again["files"]["orphans"]),
        (&json!(0), &json!(0)),
        "{again}"
    );
    let searches = stack.admin.get(ORPHANS).await.expect(200);
    assert_eq!(searches["items"].as_array().unwrap().len(), 3, "{searches}");
    stack.client.get(ORPHANS).await.expect(403);
    stack
        .admin
        .post(&format!("{ORPHANS}?mode=burn"), &json!({}))
        .await
        .expect(400);
}

#[tokio::test]
async fn what_is_young_is_left_alone_and_a_failed_listing_deletes_nothing() {
    let stack = stack("3600").await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    built(&stack.client, &index).await;
    execute(&stack, "DELETE FROM rag_index_attachments").await;
    execute(&stack, "DELETE FROM rag_provider_file_uploads").await;
    let report = search(&stack, "delete").await;
    assert_eq!(
        (&report["files"]["young"], &report["files"]["deleted"]),
        (&json!(1), &json!(0)),
        "{report}"
    );

    // Old enough by now, but the second page never comes.
    let stack = self::stack("1").await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    built(&stack.client, &index).await;
    execute(&stack, "DELETE FROM rag_index_attachments").await;
    execute(&stack, "DELETE FROM rag_provider_file_uploads").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let broken = Rule {
        when: When {
            operation: Some("files.list".to_owned()),
            ..When::default()
        },
        then: Action::EmptyPage { has_more: true },
    };
    stack.control().add_fault(broken).unwrap();
    let job = stack
        .admin
        .post(&format!("{ORPHANS}?mode=delete"), &json!({}))
        .await
        .expect(202);
    let path = format!("{ORPHANS}/{}", job["id"].as_str().unwrap());
    rag_tests::eventually("a failure", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["last_error"].is_string() || job["waiting"]["reason"].is_string()).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(effects(&stack, Effect::FileDeleted).len(), 0);
}

/// A worker is killed amid an upload, the next one uploads again, and then the first one arrives: nothing proves that it is
/// ours, so an admin decides.
#[tokio::test]
async fn an_upload_that_nobody_heard_of_is_reported_and_an_admin_decides() {
    let stack = stack("1").await;
    let mut slow = Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            nth: Some(1),
            times: Some(1),
            ..When::default()
        },
        then: Action::LoseRequest {
            how: rag_emulator::Loss::Hang,
        },
    };
    slow.when.filename = None;
    stack.control().add_fault(slow).unwrap();
    let worker = stack.worker("killed");
    let client = &stack.client;
    let index = client.create_index("handbook", "openai").await;
    let content = b"a page that takes its time";
    let file = client.upload("late.md", content, None).await;
    client.link(&index, &file).await;
    let job = client.build(&index).await;
    rag_tests::eventually("the upload to hang", LIMIT, || async {
        let open: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM rag_provider_intents WHERE operation = 'upload_file'")
                .fetch_one(&stack.database.pool)
                .await
                .unwrap();
        (open == 1 && stack.control().faults()[0].fired == 1).then_some(())
    })
    .await;
    worker.kill().await;
    let _second = stack.worker("second");
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 1);
    let sha256 = stack.control().state().files[0].sha256.to_string();
    // Now it arrives.
    let late = Other::at(&stack).create_file("late.md", content).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let theirs = Other::at(&stack)
        .create_file("late.md", b"a page that is a strangers")
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = search(&stack, "delete").await;
    assert_eq!(report["files"]["deleted"], 0, "{report}");
    let unproven = |ids: &[&String]| {
        let mut all: Vec<_> = ids
            .iter()
            .map(|id| ((*id).clone(), "unproven".to_owned()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(verdicts(&report), unproven(&[&late, &theirs]), "{report}");
    for item in report["items"].as_array().unwrap() {
        assert_eq!(item["size_bytes"], 26, "{item}");
        assert_eq!(item["may_be_of"][0]["file_id"], json!(file), "{item}");
        assert_eq!(item["may_be_of"][0]["sha256"], json!(sha256), "{item}");
    }

    // Named, and unknown, and one that is in use.
    let kept = effects(&stack, Effect::FileCreated)[0].file_id.clone().unwrap();
    let decision = json!({"confirmed_files": [late, "file-unknown", kept.to_string()]});
    let report = search_orphans(&stack, "openai", "report", &decision).await;
    assert_eq!(report["files"]["deleted"], 1, "{report}");
    let left: Vec<_> = stack
        .control()
        .state()
        .files
        .iter()
        .map(|file| file.id.to_string())
        .collect();
    assert!(!left.contains(&late), "{left:?}");
    assert!(
        left.contains(&theirs) && left.contains(&kept.to_string()),
        "{left:?}"
    );
    let report = search(&stack, "delete").await;
    assert_eq!(verdicts(&report), unproven(&[&theirs]), "{report}");
}
