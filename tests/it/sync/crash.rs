//! A provider sync whose workers are killed every few seconds: the right result, little memory, and no file downloaded twice
//! without need.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rag_emulator::{Action, Emulator, LedgerQuery, Rule, Seed, When};
use rag_tests::Stack;
use serde_json::{Value, json};

use super::provider::dump;
use crate::fixtures::killing::Killing;

const MOST_MEMORY_KIB: u64 = 100 * 1024;

struct Scale {
    stores: usize,
    files_per_store: usize,
    /// At most so many calls are under way at once. So many files are downloaded again when their worker dies, and those that came
    /// while others were being written down.
    at_once: usize,
    /// Each download takes so long.
    download_ms: u64,
    kill_every: Duration,
    limit: Duration,
}

#[tokio::test]
async fn a_sync_survives_its_workers() {
    survives(&Scale {
        stores: 40,
        files_per_store: 8,
        at_once: 4,
        download_ms: 40,
        kill_every: Duration::from_secs(3),
        limit: Duration::from_mins(5),
    })
    .await;
}

#[tokio::test]
async fn a_sync_of_many_stores_side_by_side_survives_its_workers() {
    survives(&Scale {
        stores: 60,
        files_per_store: 10,
        at_once: 32,
        download_ms: 250,
        kill_every: Duration::from_millis(2500),
        limit: Duration::from_mins(5),
    })
    .await;
}

/// `cargo test -p rag-tests --test it -- --ignored --nocapture two_thousand`; `SYNC_STORES` for another number of them,
/// `SYNC_KILL_SECONDS` from one kill to the next.
#[tokio::test]
#[ignore = "takes many minutes"]
async fn two_thousand_stores_of_fifty_files_survive_their_workers() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    survives(&Scale {
        stores: number("SYNC_STORES").unwrap_or(2000),
        files_per_store: 50,
        at_once: 32,
        download_ms: 0,
        kill_every: Duration::from_secs(number("SYNC_KILL_SECONDS").unwrap_or(5) as u64),
        limit: Duration::from_hours(1),
    })
    .await;
}

async fn survives(scale: &Scale) {
    let emulator = Emulator::builder()
        .indexing(5, 0.0)
        .allow_content()
        .ledger_reads();
    let stack = Stack::builder()
        .emulator(emulator)
        .setting("SYNC_FILE_CONCURRENCY", &scale.at_once.to_string())
        .setting("QUEUE_LEASE_SECONDS", "1")
        .start()
        .await;
    let seeded = stack.control().seed(Seed {
        stores: scale.stores,
        files_per_store: scale.files_per_store,
    });
    let delay = Rule {
        when: When {
            operation: Some("files.content".to_owned()),
            ..When::default()
        },
        then: Action::Delay {
            ms: scale.download_ms,
        },
    };
    if scale.download_ms > 0 {
        stack.control().add_fault(delay).unwrap();
    }
    let answer = stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(202);
    let path = format!("/admin/providers/openai/syncs/{}", answer["id"].as_str().unwrap());

    let begun = Instant::now();
    let killing = Killing {
        workers: 2,
        every: scale.kill_every,
        limit: scale.limit,
    };
    let (job, kills, peak_kib) = killing.until_over(&stack, &stack.admin, &path).await;
    let files = scale.stores * scale.files_per_store;
    let took = begun.elapsed();
    assert_eq!(job["state"], "done", "{job}");
    let output = &job["output"];
    assert_eq!(output["status"], "done", "{output}");
    assert_eq!(output["indexes_created"], json!(scale.stores), "{output}");
    for name in ["files_created", "index_files_created", "provider_uploads_created"] {
        assert_eq!(output[name], json!(files), "{name}: {output}");
    }
    assert_eq!(output["errors"], json!([]));
    assert_eq!(
        job["attempts"], 0,
        "a killed worker is no failure of the job: {}",
        job["last_error"]
    );

    right_rows(&stack, &seeded.stores, files).await;
    assert_eq!(
        on_disk(&stack.files_root()),
        files,
        "killed downloads leave nothing behind"
    );
    let (downloads, most) = downloads(&stack);
    eprintln!(
        "{files} files in {} stores: {took:?}, {kills} kills, {downloads} downloads (one file at most {most} times), {peak_kib} KiB at most",
        scale.stores
    );
    assert!(kills > 0, "it was over before anybody was killed");
    assert!(
        downloads >= files && downloads <= files + kills * 3 * scale.at_once,
        "{downloads} downloads of {files} files"
    );
    assert!(peak_kib > 0 && peak_kib < MOST_MEMORY_KIB, "{peak_kib} KiB");
    compared_before(&stack, files, &killing).await;
}

/// What was imported is not downloaded again, whoever is killed meanwhile.
async fn compared_before(stack: &Stack, files: usize, killing: &Killing) {
    let (rows, (before, _)) = (dump(stack).await, downloads(stack));
    let answer = stack
        .admin
        .post("/admin/providers/openai/sync?compare=once", &json!({}))
        .await
        .expect(202);
    let path = format!("/admin/providers/openai/syncs/{}", answer["id"].as_str().unwrap());
    let killing = Killing {
        every: Duration::from_millis(400),
        ..*killing
    };
    let (job, kills, _) = killing.until_over(stack, &stack.admin, &path).await;
    let output = &job["output"];
    assert_eq!(
        (&job["state"], &output["status"]),
        (&json!("done"), &json!("done")),
        "{job}"
    );
    for (name, count) in [
        ("files_kept", files),
        ("files_skipped", files),
        ("files_compared", 0),
        ("files_created", 0),
        ("indexes_updated", 0),
    ] {
        assert_eq!(output[name], json!(count), "{name}: {output}");
    }
    eprintln!("{files} files that were compared before: {kills} kills");
    assert_eq!(downloads(stack).0, before);
    assert_eq!(dump(stack).await, rows, "a second sync changes nothing");
}

/// Every store is one index with exactly its files, in their order.
async fn right_rows(stack: &Stack, stores: &[(rag_emulator::Id, Vec<rag_emulator::Id>)], files: usize) {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT i.external_id, f.external_file_id FROM rag_indexes i JOIN rag_index_files l ON l.index_id = i.id \
         JOIN rag_files f ON f.id = l.file_id AND f.domain_id = i.domain_id \
         JOIN rag_provider_file_uploads u ON u.local_file_id = f.id AND u.external_file_id = f.external_file_id \
             AND u.content_sha256 = f.sha256 AND u.status = 'uploaded' \
         JOIN rag_index_attachments a ON a.index_id = i.id AND a.local_file_id = f.id AND a.state = 'completed' \
         WHERE i.indexing_status = 'done' ORDER BY i.external_id, l.include_order",
    )
    .fetch_all(&stack.database.pool)
    .await
    .unwrap();
    assert_eq!(rows.len(), files);
    let mut linked: HashMap<String, Vec<String>> = HashMap::new();
    for (store, file) in rows {
        linked.entry(store).or_default().push(file);
    }
    for (store, files) in stores {
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        assert_eq!(linked[&**store], files, "store {store}");
    }
    for table in ["rag_files", "rag_provider_file_uploads", "rag_index_attachments"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let count: i64 = sqlx::query_scalar(sql)
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
        assert_eq!(usize::try_from(count).unwrap(), files, "{table}");
    }
}

/// Contents that were handed out: all of them, and how often the same file's.
fn downloads(stack: &Stack) -> (usize, usize) {
    let query = LedgerQuery {
        operation: Some("files.content".to_owned()),
        ..LedgerQuery::default()
    };
    let mut by_file: HashMap<Value, usize> = HashMap::new();
    for entry in stack.control().ledger(&query) {
        *by_file.entry(json!(entry.file_id)).or_default() += 1;
    }
    (
        by_file.values().sum(),
        by_file.values().copied().max().unwrap_or_default(),
    )
}

/// Stored contents, without the programs' own files in the root, and without what was being received when its receiver was killed: that is swept
/// by its age.
fn on_disk(root: &Path) -> usize {
    let mut count = 0;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !path.is_dir() {
                count += usize::from(!name.starts_with(".rag-files-"));
            } else if !path.ends_with(".incoming") {
                folders.push(path);
            }
        }
    }
    count
}
