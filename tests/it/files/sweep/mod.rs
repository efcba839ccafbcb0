//! What killed processes leave under FILES_ROOT is swept, and nothing else is.

mod shared;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rag_tests::{Program, Stack, StackBuilder, eventually};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use crate::fixtures::indexes::prose;

const LIMIT: Duration = Duration::from_mins(1);
/// A file that no database has.
const NOBODY: &str = "6a9c2f7e-3b1d-4c5e-8f90-123456789abc";
const NAME: &str = "0123456789ab-ba9876543210-a.txt";

/// Rounds every second; what is two seconds old is old.
fn sweeping() -> StackBuilder {
    Stack::builder()
        .setting("FILES_SWEEP_EVERY_SECONDS", "1")
        .setting("FILES_SWEEP_MIN_AGE_SECONDS", "2")
}

/// Every file below, relative to it, without the programs' own.
fn on_disk(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        // A sweep may take it away meanwhile.
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if !relative.starts_with(".rag-files-") {
                found.insert(relative);
            }
        }
    }
    found
}

async fn in_rows(stack: &Stack) -> BTreeSet<String> {
    let rows: Vec<String> = sqlx::query_scalar("SELECT local_path FROM rag_files")
        .fetch_all(&stack.database.pool)
        .await
        .unwrap();
    rows.into_iter().collect()
}

fn plant(root: &Path, relative_path: &str) -> PathBuf {
    let path = root.join(relative_path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "left over").unwrap();
    path
}

/// Waits until a round that has begun after this call is over; answers its report.
async fn swept(stack: &Stack) -> Value {
    let at = || async {
        let row: (
            Option<chrono::DateTime<chrono::Utc>>,
            Option<sqlx::types::Json<Value>>,
        ) = sqlx::query_as("SELECT swept_at, report FROM rag_files_sweep")
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
        row
    };
    // The one that ends next may be under way.
    let mut before = at().await.0;
    let mut report = Value::Null;
    for _ in 0..2 {
        let (now, found) = eventually("a sweep", LIMIT, || async {
            let row = at().await;
            (row.0 != before).then_some(row)
        })
        .await;
        before = now;
        report = found.unwrap().0;
    }
    report
}

async fn swept_until(stack: &Stack, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let report = swept(stack).await;
        if is_so(&report) {
            return report;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: {report}");
    }
}

#[tokio::test]
async fn what_killed_processes_leave_behind_is_swept_and_every_file_stays() {
    let mut stack = sweeping().start().await;
    let root = stack.files_root();
    let mut kills = 0;
    let left = loop {
        let known: Vec<String> = sqlx::query_scalar("SELECT id FROM rag_files ORDER BY RAND() LIMIT 12")
            .fetch_all(&stack.database.pool)
            .await
            .unwrap();
        for n in 0..24_u64 {
            let client = stack.client.clone();
            let content = prose(&format!("k{kills}n{n}x"), 400);
            let known = known.get(usize::try_from(n).unwrap() / 2).cloned();
            // Uploads, replacements and deletions that the kill cuts off; which of them does not matter.
            tokio::spawn(async move {
                let request = match (n % 4, known) {
                    (1, Some(file)) => client
                        .request(Method::PUT, &format!("/files/{file}/content"))
                        .body(content),
                    (3, Some(file)) => client.request(Method::DELETE, &format!("/files/{file}")),
                    _ => {
                        let part = Part::bytes(content).file_name("a.md");
                        let form = Form::new().part("file", part);
                        client.request(Method::POST, "/files").multipart(form)
                    }
                };
                let _cut_off = request.send().await;
            });
        }
        tokio::time::sleep(Duration::from_millis(10 + 7 * (kills % 8))).await;
        stack.kill_api().await;
        kills += 1;
        let named = in_rows(&stack).await;
        let left = on_disk(&root).difference(&named).count();
        if (kills >= 12 && left > 0) || kills == 60 {
            break left;
        }
    };
    eprintln!("{kills} kills left {left} files without a row");
    assert!(left > 0, "nothing was left: this test shows nothing");

    let _workers = [stack.worker("one"), stack.worker("two")];
    eventually("a clean folder", LIMIT, || async {
        (on_disk(&root) == in_rows(&stack).await).then_some(())
    })
    .await;
    let report = swept(&stack).await;
    assert_eq!(
        (&report["result"], &report["missing"]),
        (&"swept".into(), &0.into()),
        "{report}"
    );
    let files: Vec<String> = sqlx::query_scalar("SELECT id FROM rag_files")
        .fetch_all(&stack.database.pool)
        .await
        .unwrap();
    for file in files {
        let answer = stack.client.get(&format!("/files/{file}/download")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn only_what_is_ours_old_and_unnamed_goes() {
    let stack = sweeping().start().await;
    let root = stack.files_root();
    let file = stack.client.upload("a.md", &prose("a", 50), None).await;
    let kept = in_rows(&stack).await.pop_first().unwrap();
    let lost = stack.client.upload("b.md", &prose("b", 50), None).await;
    let lost_path = in_rows(&stack)
        .await
        .into_iter()
        .find(|path| *path != kept)
        .unwrap();
    fs::remove_file(root.join(&lost_path)).unwrap();

    let stored = kept.rsplit('/').next().unwrap();
    let leftovers = [
        format!("acme/{NOBODY}/{NAME}"),
        // An older version of a file.
        format!("acme/{file}/{NAME}"),
        format!(".incoming/{NOBODY}"),
    ];
    let others = [
        "README.txt".to_owned(),
        "acme/notes.txt".to_owned(),
        format!("acme/{file}/notes.txt"),
        format!("acme/{NOBODY}/{NAME}.d/x"),
        "backup/not-a-file/x".to_owned(),
        // A folder that somebody has copied.
        format!("acme_old/{file}/{stored}"),
    ];
    for path in leftovers.iter().chain(&others) {
        plant(&root, path);
    }
    let outside = tempfile::tempdir().unwrap();
    plant(outside.path(), &format!("{NOBODY}/{NAME}"));
    symlink(outside.path(), root.join("linked")).unwrap();
    symlink(
        outside.path().join(NOBODY).join(NAME),
        root.join(format!("acme/{file}/1{}", &NAME[1..])),
    )
    .unwrap();
    fs::create_dir_all(root.join("empty").join(NOBODY)).unwrap();

    let worker = stack.worker("worker");
    eventually("the leftovers to go", LIMIT, || async {
        let is_gone = |path: &String| !root.join(path).exists();
        (leftovers.iter().all(is_gone) && !root.join("empty").exists()).then_some(())
    })
    .await;
    let report = swept(&stack).await;
    assert_eq!(report["missing"], 1, "{report}");
    // `acme/<nobody>` holds a folder of somebody's, and stays with it.
    assert_eq!(report["strange"], 8, "{report}");
    for path in &others {
        assert!(root.join(path).exists(), "{path}");
    }
    assert!(outside.path().join(NOBODY).join(NAME).exists());
    assert_eq!(
        stack.client.get(&format!("/files/{file}/download")).await.status,
        200
    );
    stack.client.get(&format!("/files/{lost}")).await.expect(200);
    let log = worker.log();
    assert!(
        log.contains("something is not as it should be") && log.contains(&lost),
        "{log}"
    );
    let metrics = eventually("the gauges", LIMIT, || async {
        let text = worker_metrics(&worker).await;
        text.contains("rag_files_missing 1").then_some(text)
    })
    .await;
    assert!(metrics.contains("rag_files_strange 8"), "{metrics}");
    assert!(metrics.contains("rag_files_sweep_refused 0"), "{metrics}");
}

async fn worker_metrics(worker: &Program) -> String {
    let log = worker.log();
    let address = log
        .lines()
        .find(|line| line.contains("health and metrics"))
        .and_then(|line| line.split("127.0.0.1:").nth(1))
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let Some(port) = address else { return String::new() };
    reqwest::get(format!("http://127.0.0.1:{port}/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_young_stays_and_a_report_touches_nothing() {
    let stack = sweeping().start().await;
    let root = stack.files_root();
    let path = plant(&root, &format!("acme/{NOBODY}/{NAME}"));
    let careful = stack.worker_with("careful", &[("FILES_SWEEP_MIN_AGE_SECONDS", "3600")]);
    let report = swept_until(&stack, "a sweep", |report| report["result"] == "swept").await;
    assert_eq!(
        (&report["contents"], &report["unnamed"]),
        (&1.into(), &0.into()),
        "{report}"
    );
    careful.kill().await;

    let reporting = stack.worker_with("reporting", &[("FILES_SWEEP", "report")]);
    let report = swept_until(&stack, "a report", |report| report["unnamed"] == 1).await;
    assert_eq!(report["result"], "reported", "{report}");
    assert!(path.exists());
    reporting.kill().await;
}

#[tokio::test]
async fn too_many_at_once_are_not_deleted() {
    let stack = sweeping().start().await;
    let root = stack.files_root();
    for n in 0..101 {
        plant(&root, &format!("acme/{NOBODY}/{n:012x}-ba9876543210-a.txt"));
    }
    let _worker = stack.worker("worker");
    let report = swept_until(&stack, "the deletion threshold", |report| {
        report["unnamed"] == 101
    })
    .await;
    // The first round claims the folder, and reports.
    let report = if report["result"] == "over_threshold" {
        report
    } else {
        swept(&stack).await
    };
    assert_eq!(report["result"], "over_threshold", "{report}");
    assert_eq!(on_disk(&root).len(), 101);
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_or_a_database_that_was_put_back_stops_the_sweep() {
    let stack = sweeping().start().await;
    let root = stack.files_root();
    stack.client.upload("a.md", &prose("a", 50), None).await;
    let _worker = stack.worker("worker");
    swept_until(&stack, "a sweep", |report| report["result"] == "swept").await;

    // As an empty mount point looks.
    let away = root.with_file_name("away");
    fs::rename(&root, &away).unwrap();
    fs::create_dir_all(root.join(".incoming")).unwrap();
    let report = swept_until(&stack, "no mount", |report| report["result"] == "refused").await;
    assert!(
        report["reason"].as_str().unwrap().contains("is it mounted?"),
        "{report}"
    );
    assert_eq!(report["missing"], 0, "nothing is said of contents: {report}");
    fs::remove_dir_all(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    swept_until(&stack, "the mount", |report| report["result"] == "swept").await;

    // A dump of yesterday: its rows name less than there is.
    sqlx::query("UPDATE rag_files_sweep SET stamp = UUID(), next_stamp = NULL")
        .execute(&stack.database.pool)
        .await
        .unwrap();
    let path = plant(&root, &format!("acme/{NOBODY}/{NAME}"));
    let report = swept_until(&stack, "an older state", |report| report["result"] == "refused").await;
    assert!(
        report["reason"].as_str().unwrap().contains("an older state"),
        "{report}"
    );
    swept(&stack).await;
    swept(&stack).await;
    assert!(path.exists());
}

/// Of two workers that start together, one may claim the folder between the other's word to the database and to the folder.
#[tokio::test]
async fn a_stamp_that_another_worker_has_begun_is_finished_and_not_replaced() {
    let stack = sweeping().start().await;
    let begun = "5b0f0d3c-9d0e-4c55-8a43-0f2d0c7a1e11";
    sqlx::query("UPDATE rag_files_sweep SET next_stamp = ?")
        .bind(begun)
        .execute(&stack.database.pool)
        .await
        .unwrap();
    let _worker = stack.worker_with("claims", &[("FILES_SWEEP_EVERY_SECONDS", "3600")]);
    let marker = stack.files_root().join(".rag-files-sweep");
    let said = eventually("the marker", LIMIT, || async {
        fs::read_to_string(&marker)
            .ok()
            .filter(|text| text.ends_with('\n'))
    })
    .await;
    assert!(said.contains(begun), "{said}");
    // The other worker goes on now: it finds its marker there, and its stamp finished.
    let stamp: Option<String> = eventually("the stamp to be finished", LIMIT, || async {
        let row: (Option<String>, Option<String>) =
            sqlx::query_as("SELECT stamp, next_stamp FROM rag_files_sweep")
                .fetch_one(&stack.database.pool)
                .await
                .unwrap();
        row.1.is_none().then_some(row.0)
    })
    .await;
    assert!(stamp.is_some_and(|stamp| said.contains(&stamp)), "{said}");
}
