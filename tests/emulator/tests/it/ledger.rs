//! The ledger, the rates, and the rest of the control API.

use crate::support::{fixed, id, read, start, with};
use rag_emulator::{Effect, Emulator, Entry, LedgerQuery, Options, Rates};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn every_effect_is_there_in_order_with_its_ids() {
    let client = start().await;
    let file = client.upload("a.txt", "text").await;
    let store = client.store().await;
    let batches = format!("/vector_stores/{store}/file_batches");
    let files = json!({ "files": [{ "file_id": file, "chunking_strategy": fixed(100, 20) }] });
    let request = client
        .request(Method::POST, &batches)
        .header("x-client-request-id", "mine")
        .json(&files);
    let batch = id(&read(request.send().await.unwrap()).await.1);
    client.settled(&store, &file).await;
    client
        .delete(&format!("/vector_stores/{store}/files/{file}"))
        .await;
    client
        .refused(
            Method::DELETE,
            &format!("/vector_stores/{store}/files/{file}"),
            None,
        )
        .await;
    client.delete(&format!("/files/{file}")).await;
    client.delete(&format!("/vector_stores/{store}")).await;

    let entries = client.emulator.control().ledger(&LedgerQuery::default());
    let effects: Vec<Effect> = entries.iter().map(|entry| entry.effect).collect();
    assert_eq!(
        effects,
        [
            Effect::FileCreated,
            Effect::StoreCreated,
            Effect::BatchCreated,
            Effect::Attached,
            Effect::Indexed,
            Effect::Detached,
            Effect::None,
            Effect::FileDeleted,
            Effect::StoreDeleted,
        ]
    );
    assert!(
        entries
            .iter()
            .enumerate()
            .all(|(index, entry)| entry.seq == index as u64 + 1)
    );
    let attached = &entries[3];
    assert_eq!(
        (
            attached.file_id.as_deref(),
            attached.vector_store_id.as_deref(),
            attached.batch_id.as_deref()
        ),
        (Some(&*file), Some(&*store), Some(&*batch))
    );
    assert_eq!(attached.operation, "vector_stores.file_batches.create");
    assert_eq!(attached.chunking_strategy, Some(fixed(100, 20)));
    assert_eq!(
        (
            attached.client_request_id.as_deref(),
            attached.filename.as_deref()
        ),
        (Some("mine"), Some("a.txt"))
    );
    assert_eq!(
        (entries[0].bytes, entries[0].status, &*entries[0].path),
        (Some(4), Some(200), "/v1/files")
    );
    let refused = &entries[6];
    assert_eq!(
        (refused.status, refused.changed, refused.file_id.as_deref()),
        (Some(404), false, Some(&*file))
    );
}

#[tokio::test]
async fn the_ledger_is_read_by_number_operation_and_effect() {
    let client = start().await;
    for n in 0..3 {
        client.upload(&format!("{n}.txt"), "text").await;
    }
    let store = client.store().await;
    client.get("/files").await;
    client
        .refused_post("/vector_stores", json!({ "metadata": { "k": 1 } }))
        .await;
    let url = format!("{}/_emulator/ledger", client.emulator.origin());
    let read = async |query: &str| -> Vec<Entry> {
        let text = client
            .http
            .get(format!("{url}?{query}"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(read("").await.len(), 5);
    assert_eq!(read("since=1&operation=files.create").await.len(), 2);
    assert_eq!(
        read("effect=store_created").await[0].vector_store_id.as_deref(),
        Some(&*store)
    );
    assert_eq!(read("changed=false").await[0].status, Some(400));
    assert_eq!(read("since=5").await.len(), 0);
}

#[tokio::test]
async fn reads_are_recorded_when_asked_for() {
    let client = with(Emulator::builder().options(Options {
        ledger_reads: true,
        ..Options::default()
    }))
    .await;
    client.get("/files").await;
    let entry = client
        .emulator
        .control()
        .ledger(&LedgerQuery::default())
        .remove(0);
    assert_eq!(
        (entry.operation.as_ref(), entry.changed, entry.status),
        ("files.list", false, Some(200))
    );
}

#[tokio::test]
async fn drift_is_done_by_the_api_itself_and_marked() {
    let client = start().await;
    let external = client
        .upload_request("drift.txt", "text")
        .header("x-emulator-external", "1");
    let file = id(&read(external.send().await.unwrap()).await.1);
    let replace = format!("{}/_emulator/files/{file}/content", client.emulator.origin());
    assert_eq!(
        client
            .http
            .put(&replace)
            .body("other text")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(client.get(&format!("/files/{file}")).await["bytes"], 10);
    let entries = client.emulator.control().ledger(&LedgerQuery::default());
    let effects: Vec<_> = entries
        .iter()
        .map(|entry| (entry.effect, entry.external))
        .collect();
    assert_eq!(
        effects,
        [(Effect::FileCreated, true), (Effect::FileReplaced, true)]
    );
    assert_ne!(entries[0].sha256, entries[1].sha256);
    // Only the read counts as a client's.
    assert_eq!(client.emulator.control().rates().prefixes["*"].total, 1);
}

#[tokio::test]
async fn rates_are_kept_and_may_be_limited() {
    let options = Options {
        requests_per_second: Some(5),
        ..Options::default()
    };
    let client = with(Emulator::builder().options(options)).await;
    let calls = (0..12).map(|_| client.call(Method::GET, "/files", None));
    let statuses: Vec<u16> = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(|(status, _)| status)
        .collect();
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 5);
    assert!(statuses.contains(&429), "{statuses:?}");
    let url = format!("{}/_emulator/rate", client.emulator.origin());
    let text = client.http.get(url).send().await.unwrap().text().await.unwrap();
    let rates: Rates = serde_json::from_str(&text).unwrap();
    assert_eq!(rates.prefixes["/v1/files"].total, 12);
    assert!(rates.prefixes["*"].max_per_second > 5);
}

#[tokio::test]
async fn reset_forgets_everything() {
    let client = start().await;
    let file = client.upload("a.txt", "text").await;
    client.post("/vector_stores", json!({ "file_ids": [file] })).await;
    let url = format!("{}/_emulator/reset", client.emulator.origin());
    assert_eq!(client.http.post(url).send().await.unwrap().status(), 204);
    let control = client.emulator.control();
    assert!(control.state().files.is_empty() && control.state().stores.is_empty());
    assert!(control.ledger(&LedgerQuery::default()).is_empty());
    assert_eq!(client.get("/files").await["data"], Value::Array(Vec::new()));
    client.upload("b.txt", "text").await;
    assert_eq!(control.ledger(&LedgerQuery::default())[0].seq, 1);
}

#[tokio::test]
async fn emulators_in_one_process_do_not_share_anything() {
    let (one, two) = (start().await, start().await);
    one.upload("a.txt", "text").await;
    assert_eq!(two.emulator.control().state().files.len(), 0);
    assert_ne!(one.emulator.url(), two.emulator.url());
}
