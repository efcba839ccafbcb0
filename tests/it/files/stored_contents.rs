//! Stored contents that a worker cannot read, or that are not what their rows say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rag_emulator::{Action, Effect, Emulator, Rule, When};
use rag_tests::{Stack, eventually, free_address};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::built;
use crate::fixtures::indexes::{index_with, prose};
use crate::fixtures::jobs::provider_sync as sync;
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);

/// A program's own port: status and text.
async fn ask(address: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{address}{path}")).await;
    match answer {
        Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap()),
        Err(error) => (0, error.to_string()),
    }
}

async fn is_ready(address: &str, ready: bool) -> String {
    let what = format!("ready: {ready}");
    eventually(&what, LIMIT, || async {
        let (status, text) = ask(address, "/health/ready").await;
        (status == if ready { 200 } else { 503 }).then_some(text)
    })
    .await
}

async fn path_of(stack: &Stack, file: &str) -> PathBuf {
    let path: String = sqlx::query_scalar("SELECT local_path FROM rag_files WHERE id = ?")
        .bind(file)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap();
    stack.files_root().join(path)
}

async fn uploads(stack: &Stack, status: &str) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM rag_provider_file_uploads WHERE status = ?")
        .bind(status)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap()
}

/// The job waits, because of the stored files; answers it.
async fn waits_for_files(stack: &Stack, job: &str) -> Value {
    eventually("a visible reason", LIMIT, || async {
        let job = stack.client.job(job).await;
        job.to_string()
            .contains("no access to the stored files")
            .then_some(job)
    })
    .await
}

async fn item(stack: &Stack, index: &str, file: &str) -> Value {
    let items = stack.client.provider_files(index).await;
    let found = items.into_iter().find(|item| item["file"]["id"] == json!(file));
    found.unwrap()
}

/// Other bytes of the same number.
fn spoil(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_worker_that_does_not_see_the_files_leaves_the_work_to_another() {
    let stack = Stack::start().await;
    let address = free_address();
    let empty = tempfile::tempdir().unwrap();
    let settings = [
        ("WORKER_LISTEN", address.as_str()),
        ("FILES_ROOT", empty.path().to_str().unwrap()),
    ];
    let _broken = stack.worker_with("broken", &settings);
    let reason = is_ready(&address, false).await;
    assert!(reason.contains("is it mounted?"), "{reason}");
    let (index, _) = index_with(&stack, 2).await;
    let job = stack.client.build(&index).await;
    waits_for_files(&stack, &job).await;
    assert_eq!(uploads(&stack, "failed").await, 0);
    assert!(effects(&stack, Effect::FileCreated).is_empty());
    let (_, metrics) = ask(&address, "/metrics").await;
    assert!(metrics.contains("rag_files_readable 0"), "{metrics}");
    let noted = "rag_file_read_failures_total{cause=\"not_mounted\"}";
    assert!(metrics.contains(noted), "{metrics}");

    let _good = stack.worker("good");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_root_that_goes_away_loses_no_file() {
    let stack = Stack::start().await;
    let address = free_address();
    let _worker = stack.worker_with("worker", &[("WORKER_LISTEN", &address)]);
    is_ready(&address, true).await;
    let client = &stack.client;
    let (index, files) = index_with(&stack, 2).await;
    // Whose deletion is under way already; the copy has to go first.
    let gone = client.upload("gone.md", &prose("gone", 50), None).await;
    let path = format!("/files/{gone}/provider-uploads/openai");
    let upload = client.post(&path, &json!({})).await.expect(202);
    client.finished(upload["id"].as_str().unwrap(), LIMIT).await;
    let slow = Rule {
        when: When {
            operation: Some("files.delete".to_owned()),
            times: Some(1),
            ..When::default()
        },
        then: Action::Delay { ms: 3_000 },
    };
    stack.control().add_fault(slow).unwrap();
    let contents = path_of(&stack, &gone).await;
    let deletion = client.delete(&format!("/files/{gone}")).await;
    assert_eq!(deletion.status, 202, "{deletion:?}");
    let (root, away) = (stack.files_root(), stack.files_root().with_extension("away"));
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap();

    let job = client.build(&index).await;
    waits_for_files(&stack, &job).await;
    is_ready(&address, false).await;
    waits_for_files(&stack, deletion.body["id"].as_str().unwrap()).await;
    // The API neither serves, takes nor removes bytes meanwhile.
    let refused = client.delete(&format!("/files/{}", files[0])).await;
    assert_eq!(refused.body["type"], "unavailable", "{refused:?}");
    let download = client.get(&format!("/files/{}/download", files[0])).await;
    assert_eq!(download.body["type"], "unavailable", "{download:?}");
    let put = client
        .request(Method::PUT, &format!("/files/{}/content", files[0]))
        .body("new");
    assert_eq!(client.send(put).await.body["type"], "unavailable");
    let (status, text) = ask(stack.api_url.trim_start_matches("http://"), "/health/ready").await;
    assert!(status == 503 && text.contains("is it mounted?"), "{text}");
    assert_eq!(
        std::fs::read_dir(&root).unwrap().count(),
        0,
        "nothing was put there"
    );
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_files WHERE id = ?")
        .bind(&gone)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap();
    assert_eq!(rows, 1, "its contents are not known to be gone");

    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    is_ready(&address, true).await;
    client
        .finished(deletion.body["id"].as_str().unwrap(), LIMIT)
        .await;
    assert!(!contents.exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_holds_up_no_other_and_is_not_failed() {
    let stack = Stack::start().await;
    let address = free_address();
    let _worker = stack.worker_with("worker", &[("WORKER_LISTEN", &address)]);
    let client = &stack.client;
    let (index, files) = index_with(&stack, 3).await;
    let path = path_of(&stack, &files[0]).await;
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    // A name that leads to itself is an error of the file system for whoever asks, root included.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let job = client.build(&index).await;
    waits_for_files(&stack, &job).await;
    eventually("the other files to be indexed", LIMIT, || async {
        let store = stack.control().state().stores.into_iter().next()?;
        (store.files.len() == 2).then_some(())
    })
    .await;
    is_ready(&address, false).await;
    assert_eq!(uploads(&stack, "failed").await, 0);
    assert_eq!(client.index(&index).await["indexing_status"], "in_progress");
    let single = client
        .post(
            &format!("/files/{}/provider-uploads/openai", files[0]),
            &json!({}),
        )
        .await
        .expect(202);
    waits_for_files(&stack, single["id"].as_str().unwrap()).await;

    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(
        (&job["output"]["indexing_status"], &job["attempts"]),
        (&json!("done"), &json!(0)),
        "{job}"
    );
    is_ready(&address, true).await;
    client.finished(single["id"].as_str().unwrap(), LIMIT).await;
    assert_no_orphans(&stack).await;
}

/// Lost contents, and contents of other bytes: the file says so, the worker is well, and the right bytes mend it.
#[tokio::test]
async fn damaged_contents_fail_their_file_and_never_become_a_copy() {
    let stack = Stack::start().await;
    let address = free_address();
    let _worker = stack.worker_with("worker", &[("WORKER_LISTEN", &address)]);
    let client = &stack.client;
    let index = client.create_index("handbook", "openai").await;
    let texts: Vec<Vec<u8>> = (0..4).map(|n| prose(&format!("w{n}x"), 50_000)).collect();
    let mut files = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let file = client.upload(&format!("page-{n}.md"), text, None).await;
        client.link(&index, &file).await;
        files.push(file);
    }
    std::fs::remove_file(path_of(&stack, &files[0]).await).unwrap();
    spoil(&path_of(&stack, &files[1]).await);
    std::fs::write(path_of(&stack, &files[2]).await, "shorter").unwrap();

    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    let codes = ["contents_missing", "local_corruption", "local_corruption"];
    for (file, code) in files.iter().zip(codes) {
        let item = item(&stack, &index, file).await;
        assert_eq!(
            (&item["status"], &item["error_code"]),
            (&json!("failed"), &json!(code)),
            "{item}"
        );
        let upload = client
            .get(&format!("/files/{file}/provider-uploads/openai"))
            .await
            .expect(200);
        assert_eq!(upload["error_code"], code, "{upload}");
        assert!(
            upload["last_error"].is_string() && upload["external_file_id"].is_null(),
            "{upload}"
        );
    }
    let error = client.index(&index).await["last_error"].clone();
    assert!(error.as_str().unwrap().contains("page-1.md"), "{error}");
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        1,
        "only what is whole went up"
    );
    is_ready(&address, true).await;
    let (_, metrics) = ask(&address, "/metrics").await;
    let counted = "rag_file_corruptions_total{met_by=\"upload\",code=\"local_corruption\"} 2";
    assert!(metrics.contains(counted), "{metrics}");

    // Whoever downloads it gets no whole body.
    let path = format!("/files/{}/download", files[1]);
    let answer = client.request(Method::GET, &path).send().await.unwrap();
    assert!(answer.status().is_success() && answer.bytes().await.is_err());
    let (_, metrics) = ask(stack.api_url.trim_start_matches("http://"), "/metrics").await;
    let counted = "rag_file_corruptions_total{met_by=\"download\",code=\"corrupted\"} 1";
    assert!(metrics.contains(counted), "{metrics}");

    for (file, text) in files.iter().zip(&texts) {
        client.replace(file, text).await;
    }
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        4,
        "the whole one went up once"
    );
    let answer = client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), texts[1]);
    assert_no_orphans(&stack).await;
}

/// the provider's bytes are compared with those on disk, and those on disk with their row.
#[tokio::test]
async fn a_provider_sync_compares_what_lies_on_disk() {
    let emulator = Emulator::builder().indexing(5, 0.0).allow_content();
    let stack = Stack::builder().emulator(emulator).start().await;
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 5).await;
    built(&stack.client, &index).await;
    let mut copies = Vec::new();
    for file in &files {
        let upload = stack
            .client
            .get(&format!("/files/{file}/provider-uploads/openai"))
            .await
            .expect(200);
        copies.push(upload["external_file_id"].as_str().unwrap().to_owned());
    }
    let other = Other::at(&stack);
    // 0: whole. 1: spoilt here. 2: spoilt here and there in the same way. 3: spoilt there. 4: gone here.
    spoil(&path_of(&stack, &files[1]).await);
    let both = spoil(&path_of(&stack, &files[2]).await);
    other.replace(&copies[2], &both).await;
    other.replace(&copies[3], b"other bytes by now").await;
    std::fs::remove_file(path_of(&stack, &files[4]).await).unwrap();

    let result = sync(&stack, "").await;
    let results = result["file_results"].as_array().unwrap();
    let of = |file: &String| {
        let line = results.iter().find(|line| line["file_id"] == json!(file));
        let line = line.unwrap();
        assert!(line["recorded_sha256"].is_string(), "{line}");
        (
            line["status"].as_str().unwrap().to_owned(),
            line["local"].as_str().unwrap().to_owned(),
            line["local_sha256"] == line["provider_sha256"],
            line["local_sha256"] == line["recorded_sha256"],
        )
    };
    let line = |status: &str, local: &str, same: bool, recorded: bool| {
        (status.to_owned(), local.to_owned(), same, recorded)
    };
    assert_eq!(of(&files[0]), line("matches", "intact", true, true));
    assert_eq!(of(&files[1]), line("differs", "corrupted", false, false));
    assert_eq!(of(&files[2]), line("matches", "corrupted", true, false));
    assert_eq!(of(&files[3]), line("differs", "intact", false, true));
    assert_eq!(of(&files[4]), line("local_missing", "missing", false, false));
    let named = |list: &str| {
        let mut ids: Vec<String> = result[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["file_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    let sorted = |of: [usize; 2]| {
        let mut ids = of.map(|n| files[n].clone()).to_vec();
        ids.sort();
        ids
    };
    assert_eq!(named("files_byte_mismatches"), sorted([1, 3]), "{result}");
    let mut corrupted = vec![files[1].clone(), files[2].clone(), files[4].clone()];
    corrupted.sort();
    assert_eq!(named("files_corrupted"), corrupted, "{result}");
}

/// An operator has put another folder into the place of one that is lost, and both know it: nobody is to restart anything.
#[tokio::test]
async fn a_worker_takes_over_a_new_marker_of_the_root() {
    let stack = Stack::start().await;
    let address = free_address();
    let _worker = stack.worker_with("worker", &[("WORKER_LISTEN", &address)]);
    is_ready(&address, true).await;
    let marker = "0f5ae5b4-6d0c-4b0e-9d0e-3f9a4ac2a001";
    std::fs::write(stack.files_root().join(".rag-files-root"), marker).unwrap();
    let reason = is_ready(&address, false).await;
    assert!(reason.contains(marker), "{reason}");
    sqlx::query("UPDATE rag_files_root SET marker = ?")
        .bind(marker)
        .execute(&stack.database.pool)
        .await
        .unwrap();
    is_ready(&address, true).await;
}

/// A marker that was not written whole would be nobody's for ever. No file of the process may have a byte, as on a full disk.
#[tokio::test]
async fn a_start_on_a_full_disk_leaves_no_half_marker() {
    let stack = Stack::start().await;
    let marker = stack.files_root().join(".rag-files-root");
    std::fs::remove_file(&marker).unwrap();
    let address = free_address();
    let full = stack.api_after("trap '' 25 && ulimit -f 0 && exec >/dev/null 2>&1", &address);
    is_ready(&address, false).await;
    assert!(!marker.exists(), "there is no room for it");
    full.kill().await;

    let _again = stack.api_after("true", &address);
    is_ready(&address, true).await;
    assert_eq!(std::fs::read_to_string(&marker).unwrap().trim().len(), 36);
}
