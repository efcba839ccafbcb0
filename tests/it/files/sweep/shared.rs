//! A folder that several databases were given by mistake: nothing of any of them goes.

use std::fs;
use std::time::Duration;

use rag_tests::{Stack, eventually};

use super::{LIMIT, NAME, NOBODY, plant, sweeping, swept, swept_until};
use crate::fixtures::indexes::prose;

/// A second installation that was given the same folder by mistake.
#[tokio::test]
async fn two_databases_that_share_a_folder_sweep_nothing_of_each_other() {
    let (stack, other) = (sweeping().start().await, sweeping().start().await);
    let root = stack.files_root();
    let root_text = root.display().to_string();
    let path = plant(&root, &format!("acme/{NOBODY}/{NAME}"));
    let second = other.worker_with(
        "second",
        &[("FILES_ROOT", &root_text), ("FILES_SWEEP_EVERY_SECONDS", "1")],
    );
    let first = stack.worker("first");
    // Whoever came first: neither sweeps.
    for (stack, name) in [(&stack, "first"), (&other, "second")] {
        let report = swept_until(stack, name, |report| report["result"] == "refused").await;
        let reason = report["reason"].as_str().unwrap();
        assert!(
            reason.contains("other database") || reason.contains("not the folder of this installation"),
            "{name}: {report}"
        );
    }
    swept(&stack).await;
    swept(&other).await;
    assert!(path.exists(), "it may be the other's");

    // The operator has put that right, and says so.
    second.kill().await;
    fs::write(root.join(".rag-files-sweep"), "claim\n").unwrap();
    eventually("the owner to sweep again", LIMIT, || async {
        (!path.exists()).then_some(())
    })
    .await;
    first.kill().await;
}

async fn name_of(stack: &Stack) -> String {
    let name = sqlx::query_scalar("SELECT DATABASE()");
    name.fetch_one(&stack.database.pool).await.unwrap()
}

/// Staging, made of a dump of production, that was given production's folder by mistake: whichever of the two has swept first,
/// nothing of the other goes.
#[tokio::test]
async fn a_copy_of_the_database_that_shares_the_folder_sweeps_nothing_of_the_original() {
    let (stack, copy) = (sweeping().start().await, sweeping().start().await);
    let root = stack.files_root();
    let root_text = root.display().to_string();
    stack.client.upload("a.md", &prose("a", 50), None).await;
    let worker = stack.worker("original");
    swept_until(&stack, "a sweep", |report| report["result"] == "swept").await;
    worker.kill().await;
    for table in ["rag_files_root", "rag_files_sweep", "rag_files"] {
        let (from, to) = (name_of(&stack).await, name_of(&copy).await);
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "DELETE FROM `{to}`.{table}; INSERT INTO `{to}`.{table} SELECT * FROM `{from}`.{table}"
        )))
        .execute(&stack.database.pool)
        .await
        .unwrap();
    }

    let _second = copy.worker_with("copy", &[("FILES_ROOT", &root_text)]);
    swept_until(&copy, "the copy's sweep", |report| report["result"] == "swept").await;
    let _first = stack.worker("original");
    for (stack, name) in [(&stack, "the original"), (&copy, "the copy")] {
        let report = swept_until(stack, name, |report| report["result"] == "refused").await;
        let reason = report["reason"].as_str().unwrap();
        assert!(reason.contains("a copy of this database"), "{name}: {report}");
    }
    let file = stack.client.upload("b.md", &prose("b", 50), None).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    swept(&copy).await;
    swept(&stack).await;
    let answer = stack.client.get(&format!("/files/{file}/download")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Neither a worker that sweeps nothing, nor an API without a worker, lets another database believe that it is alone.
#[tokio::test]
async fn who_does_not_sweep_says_so_that_the_folder_is_not_anothers_alone() {
    let stack = sweeping().start().await;
    let root = stack.files_root();
    let root_text = root.display().to_string();
    let _worker = stack.worker("sweeper");
    swept_until(&stack, "a sweep", |report| report["result"] == "swept").await;
    let still = sweeping().setting("FILES_SWEEP_EVERY_SECONDS", "0").start().await;
    let idle = still.worker_with("idle", &[("FILES_ROOT", &root_text)]);
    swept_until(&stack, "a refusal", |report| report["result"] == "refused").await;

    // The operator has put that right, and says so.
    idle.kill().await;
    fs::write(root.join(".rag-files-sweep"), "claim\n").unwrap();
    swept_until(&stack, "a sweep", |report| report["result"] == "swept").await;
    let alone = sweeping().setting("FILES_ROOT", &root_text).start().await;
    swept_until(&stack, "a refusal", |report| report["result"] == "refused").await;
    let file = alone.client.upload("b.md", &prose("b", 50), None).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    swept(&stack).await;
    let answer = alone.client.get(&format!("/files/{file}/download")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}
