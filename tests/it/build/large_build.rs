//! An index of many files whose workers are killed every few seconds: each file goes up and is attached once.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use rag_emulator::{Action, Effect, Emulator, Rule, When};
use rag_tests::{Client, Stack};
use serde_json::{Value, json};

use crate::fixtures::indexes::{fixed, prose};
use crate::fixtures::killing::Killing;
use crate::fixtures::ledger::{assert_no_orphans, effects, spare_copies};

const MOST_MEMORY_KIB: u64 = 160 * 1024;
/// `max_lease_losses` of the queue: as many end a job that does not get on.
const LOSSES: usize = 5;

#[tokio::test]
async fn a_build_of_many_files_survives_its_workers() {
    // Whoever is killed has the job.
    let killing = Killing {
        workers: 1,
        every: Duration::from_secs(3),
        limit: Duration::from_mins(5),
    };
    survives(160, 300, &killing).await;
}

/// `cargo test -p rag-tests --test it -- --ignored --nocapture ten_thousand`; `BUILD_FILES` for another number of them,
/// `BUILD_KILL_SECONDS` from one kill to the next.
#[tokio::test]
#[ignore = "takes many minutes"]
async fn ten_thousand_files_survive_their_workers() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let killing = Killing {
        workers: 2,
        every: Duration::from_secs(number("BUILD_KILL_SECONDS").unwrap_or(10) as u64),
        limit: Duration::from_hours(1),
    };
    survives(number("BUILD_FILES").unwrap_or(10_000), 0, &killing).await;
}

/// `upload_ms`: how long each upload takes.
async fn survives(files: usize, upload_ms: u64, killing: &Killing) {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(50, 0.0))
        .setting("QUEUE_LEASE_SECONDS", "1")
        .start()
        .await;
    let slow = Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            ..When::default()
        },
        then: Action::Delay { ms: upload_ms },
    };
    stack.control().add_fault(slow).unwrap();
    let client = &stack.client;
    let begun = Instant::now();
    let index = index_of(client, files).await;
    eprintln!("{files} files are there: {:?}", begun.elapsed());

    let begun = Instant::now();
    let path = format!("/jobs/{}", client.build(&index).await);
    let (job, kills, peak_kib) = killing.until_over(&stack, client, &path).await;
    let (took, uploads) = (begun.elapsed(), effects(&stack, Effect::FileCreated).len());
    let asked = Instant::now();
    let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
    eprintln!(
        "{files} files: {took:?}, {kills} kills, {uploads} uploads, {peak_kib} KiB at most; its status: {:?}",
        asked.elapsed()
    );
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        job["attempts"], 0,
        "a killed worker is no failure of the job: {job}"
    );
    let losses = job["history"].as_array().unwrap().len();
    assert!(losses > LOSSES, "{kills} kills, but {losses} lost leases");
    assert_eq!(
        (
            &status["file_counts"]["completed"],
            &status["file_counts"]["total"]
        ),
        (&json!(files), &json!(files)),
        "{status}"
    );
    assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
    let spare = spare_copies(&stack).await.len();
    assert_eq!(
        uploads,
        files + spare,
        "each file went up once, or its answer was lost"
    );
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        files,
        "each file was attached once"
    );
    assert_no_orphans(&stack).await;
    assert!(peak_kib > 0 && peak_kib < MOST_MEMORY_KIB, "{peak_kib} KiB");
}

/// Of small files, every third with a strategy of its own.
async fn index_of(client: &Client, files: usize) -> String {
    let upload = async |n: usize| {
        let strategy = n.is_multiple_of(3).then(|| fixed(200, 20));
        client
            .upload(&format!("page-{n}.md"), &prose(&format!("w{n}x"), 20), strategy)
            .await
    };
    let ids: Vec<String> = stream::iter((0..files).map(upload)).buffered(8).collect().await;
    let members: Vec<Value> = ids.iter().map(|id| json!({"file_id": id})).collect();
    let index = client.create_index("handbook", "openai").await;
    let request = client.request(reqwest::Method::PUT, &format!("/indexes/{index}/files"));
    client
        .send(request.json(&json!({"files": members})))
        .await
        .expect(200);
    index
}
