//! Search over HTTP; ranking itself is tested beside its code.

use crate::support::{Client, fixed, start, words};
use serde_json::{Value, json};

async fn library() -> (Client, String) {
    let client = start().await;
    let store = client.store().await;
    for (name, year, text) in [
        ("cats.md", 2020, "Cats purr. A cat chases mice."),
        ("dogs.md", 2024, "Dogs bark at every cat they meet."),
        ("tax.md", 2024, "Income tax is due in April."),
    ] {
        let file = client.upload(name, text).await;
        client
            .attach(&store, json!({ "file_id": file, "attributes": { "year": year } }))
            .await;
    }
    (client, store)
}

async fn names(client: &Client, store: &str, body: Value) -> Vec<String> {
    let found = client.post(&format!("/vector_stores/{store}/search"), body).await;
    assert_eq!(found["object"], "vector_store.search_results.page");
    found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["filename"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn hits_are_ranked_filtered_and_cut() {
    let (client, store) = library().await;
    let of = |body| names(&client, &store, body);
    assert_eq!(of(json!({ "query": "cat purr" })).await, ["cats.md", "dogs.md"]);
    assert_eq!(of(json!({ "query": ["tax", "income"] })).await, ["tax.md"]);
    assert_eq!(of(json!({ "query": "cat", "max_num_results": 1 })).await.len(), 1);
    assert!(
        of(json!({ "query": "cat", "ranking_options": { "score_threshold": 0.99 } }))
            .await
            .is_empty()
    );
    let recent = json!({ "type": "gte", "key": "year", "value": 2024 });
    assert_eq!(
        of(json!({ "query": "cat", "filters": recent })).await,
        ["dogs.md"]
    );
    let none = json!({ "type": "and", "filters": [recent, { "type": "lt", "key": "year", "value": 2024 }] });
    assert!(of(json!({ "query": "cat", "filters": none })).await.is_empty());
}

#[tokio::test]
async fn a_hit_is_the_chunk_that_holds_the_words() {
    let client = start().await;
    let store = client.store().await;
    let text = format!("{} needle {}", words(550), words(400));
    let file = client.upload("hay.txt", text).await;
    client
        .attach(
            &store,
            json!({ "file_id": file, "chunking_strategy": fixed(100, 0) }),
        )
        .await;
    let found = client
        .post(
            &format!("/vector_stores/{store}/search"),
            json!({ "query": "needle" }),
        )
        .await;
    let hits = found["data"].as_array().unwrap();
    let chunk = hits[0]["content"][0]["text"].as_str().unwrap();
    assert_eq!(hits.len(), 1);
    assert!(
        chunk.starts_with("word500 ") && chunk.contains(" needle "),
        "{chunk}"
    );
    let content = client
        .get(&format!("/vector_stores/{store}/files/{file}/content"))
        .await;
    assert!(
        content["data"][0]["text"]
            .as_str()
            .unwrap()
            .contains("word549 needle word0")
    );
}

#[tokio::test]
async fn rewriting_shows_and_detached_files_are_not_found() {
    let (client, store) = library().await;
    let path = format!("/vector_stores/{store}/search");
    let found = client
        .post(
            &path,
            json!({ "query": "What is the TAX?", "rewrite_query": true }),
        )
        .await;
    assert_eq!(found["search_query"], json!(["tax"]));
    let file = found["data"][0]["file_id"].as_str().unwrap();
    client
        .delete(&format!("/vector_stores/{store}/files/{file}"))
        .await;
    assert!(names(&client, &store, json!({ "query": "tax" })).await.is_empty());
}

#[tokio::test]
async fn mistakes_are_refused() {
    let (client, store) = library().await;
    let filter = json!({ "type": "in", "key": "year", "value": 2024 });
    for body in [
        json!({}),
        json!({ "query": " " }),
        json!({ "query": [] }),
        json!({ "query": "x", "max_num_results": 0 }),
        json!({ "query": "x", "max_num_results": 51 }),
        json!({ "query": "x", "ranking_options": { "score_threshold": 1.5 } }),
        json!({ "query": "x", "ranking_options": { "ranker": "best" } }),
        json!({ "query": "x", "filters": filter }),
        json!({ "query": "x", "filters": { "type": "like", "key": "k", "value": "v" } }),
    ] {
        assert_eq!(
            client
                .refused_post(&format!("/vector_stores/{store}/search"), body.clone())
                .await
                .0,
            400,
            "{body}"
        );
    }
    assert_eq!(
        client
            .refused_post("/vector_stores/vs_nope/search", json!({ "query": "x" }))
            .await
            .0,
        404
    );
}
