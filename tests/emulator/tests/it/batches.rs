//! File batches.

use crate::support::{fixed, id, ids, start, until, with, words};
use rag_emulator::{Action, Emulator, When};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn every_file_gets_its_own_strategy_and_attributes() {
    let client = start().await;
    let store = client.store().await;
    let mut files = Vec::new();
    for n in 0..3 {
        files.push(client.upload(&format!("{n}.txt"), words(1000)).await);
    }
    let batch = client
        .post(
            &format!("/vector_stores/{store}/file_batches"),
            json!({
                "files": [
                    { "file_id": files[0], "chunking_strategy": fixed(100, 0), "attributes": { "n": 0 } },
                    { "file_id": files[1], "chunking_strategy": fixed(200, 100) },
                    { "file_id": files[2] },
                ],
                // Count for nothing beside `files`.
                "chunking_strategy": fixed(500, 0), "attributes": { "n": 9 },
            }),
        )
        .await;
    assert_eq!(
        (&batch["object"], &batch["status"]),
        (&json!("vector_store.file_batch"), &json!("in_progress"))
    );
    for file in &files {
        client.settled(&store, file).await;
    }
    let chunks: Vec<usize> = files
        .iter()
        .map(|file| client.inside(&store, file).chunks)
        .collect();
    assert_eq!(chunks, [10, 9, 2]);
    let path = format!("/vector_stores/{store}/file_batches/{}", id(&batch));
    let done = client.get(&path).await;
    assert_eq!(
        (&done["status"], &done["file_counts"]["completed"]),
        (&json!("completed"), &json!(3))
    );
    let listed = client.get(&format!("{path}/files?order=asc")).await;
    assert_eq!(ids(&listed), files);
    assert_eq!(
        (&listed["data"][0]["attributes"], &listed["data"][1]["attributes"]),
        (&json!({ "n": 0 }), &json!({}))
    );
}

#[tokio::test]
async fn wrong_batches_are_refused_whole() {
    let client = start().await;
    let (store, file) = (client.store().await, client.upload("a.txt", "text").await);
    let too_many: Vec<String> = (0..2001).map(|n| format!("file-{n}")).collect();
    let cases = [
        (400, json!({ "file_ids": [file], "files": [{ "file_id": file }] })),
        (400, json!({})),
        (400, json!({ "file_ids": [] })),
        (400, json!({ "files": [] })),
        (400, json!({ "file_ids": too_many })),
        (
            400,
            json!({ "files": [{ "file_id": file, "chunking_strategy": fixed(10, 0) }] }),
        ),
        (404, json!({ "file_ids": [file, "file-nope"] })),
    ];
    let path = format!("/vector_stores/{store}/file_batches");
    for (expected, body) in cases {
        assert_eq!(client.refused_post(&path, body).await.0, expected);
    }
    assert_eq!(
        client.get(&format!("/vector_stores/{store}")).await["file_counts"]["total"],
        0
    );
    assert_eq!(
        client
            .refused_post(
                "/vector_stores/vs_nope/file_batches",
                json!({ "file_ids": [file] })
            )
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn two_thousand_files_in_one_batch() {
    let client = start().await;
    let (store, mut files) = (client.store().await, Vec::new());
    for n in 0..2000 {
        files.push(client.upload(&format!("{n}.txt"), "text").await);
    }
    let path = format!("/vector_stores/{store}/file_batches");
    let batch = id(&client.post(&path, json!({ "file_ids": files })).await);
    until("the batch to be completed", async || {
        let shown = client.get(&format!("{path}/{batch}")).await;
        let counts = &shown["file_counts"];
        let sum: u64 = ["in_progress", "completed", "failed", "cancelled"]
            .iter()
            .map(|k| counts[*k].as_u64().unwrap())
            .sum();
        assert_eq!(sum, 2000);
        (shown["status"] == "completed").then(|| assert_eq!(counts["completed"], 2000))
    })
    .await;
}

#[tokio::test]
async fn cancelling_stops_what_has_not_ended() {
    let client = with(Emulator::builder().indexing(0, 0.0)).await;
    let store = client.store().await;
    let (done, stuck) = (
        client.upload("done.txt", "a").await,
        client.upload("stuck.txt", "b").await,
    );
    client.fault(
        When {
            filename: Some("stuck".to_owned()),
            ..When::default()
        },
        Action::Stuck,
    );
    let path = format!("/vector_stores/{store}/file_batches");
    let batch = id(&client.post(&path, json!({ "file_ids": [done, stuck] })).await);
    client.settled(&store, &done).await;
    assert_eq!(
        client.get(&format!("{path}/{batch}")).await["status"],
        "in_progress"
    );
    let cancelled = client.post(&format!("{path}/{batch}/cancel"), Value::Null).await;
    let counts = json!({ "in_progress": 0, "completed": 1, "failed": 0, "cancelled": 1, "total": 2 });
    assert_eq!(
        (&cancelled["status"], &cancelled["file_counts"]),
        (&json!("cancelled"), &counts)
    );
    assert_eq!(client.settled(&store, &stuck).await["status"], "cancelled");
    assert_eq!(
        client.get(&format!("/vector_stores/{store}")).await["file_counts"],
        counts
    );
    // Attached again, a cancelled file is indexed anew.
    client.emulator.control().clear_faults();
    assert_eq!(
        client.attach(&store, json!({ "file_id": stuck })).await["status"],
        "completed"
    );
    assert_eq!(
        client
            .refused(Method::GET, &format!("{path}/vsfb_nope"), None)
            .await
            .0,
        404
    );
}
