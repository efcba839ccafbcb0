//! Many objects: cost per request must not grow with what there is.

use crate::support::{Client, ids, start};
use futures::{StreamExt as _, stream};
use serde_json::json;
use std::time::Instant;

async fn upload(client: &Client, n: usize) -> String {
    client.upload(&format!("{n}.txt"), "text").await
}

#[tokio::test]
async fn pages_do_not_get_slower_with_the_number_of_files() {
    let client = start().await;
    let all: Vec<String> = stream::iter(0..4000)
        .map(|n| upload(&client, n))
        .buffer_unordered(16)
        .collect()
        .await;
    let store = client.store().await;
    for ids in all.chunks(2000) {
        client
            .post(
                &format!("/vector_stores/{store}/file_batches"),
                json!({ "file_ids": ids }),
            )
            .await;
    }
    let page = async |after: &str| {
        let started = Instant::now();
        for _ in 0..50 {
            let path = format!("/vector_stores/{store}/files?order=asc&limit=10&after={after}");
            assert_eq!(ids(&client.get(&path).await).len(), 10);
        }
        started.elapsed()
    };
    let (early, late) = (page(&all[0]).await, page(&all[3900]).await);
    assert!(late < early * 5, "first pages {early:?}, last pages {late:?}");
    let listed = client.get("/files?limit=10000").await;
    assert_eq!(ids(&listed).len(), 4000);
}
