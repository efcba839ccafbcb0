//! What the provider itself says, asked through the API, and how old what we know of it is.

use std::collections::BTreeMap;
use std::time::Duration;

use rag_emulator::{Action, Rule, When};
use rag_tests::Stack;
use serde_json::{Value, json};

use crate::fixtures::indexes::index_with;

const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_vector_store_is_listed_page_by_page_as_it_is() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 3).await;
    let path = format!("/indexes/{index}/provider-files");
    let live = format!("{path}?source=provider&limit=2");
    let early = stack.client.get(&live).await;
    assert_eq!(early.expect(409)["type"], "conflict", "never built");
    stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;

    let mut found: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = stack.client.get(&format!("{live}{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!((1..=2).contains(&items.len()), "{page}");
        found.extend(items.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut ids: Vec<&str> = found
        .iter()
        .map(|item| item["file_id"].as_str().unwrap())
        .collect();
    let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
    ids.sort_unstable();
    files.sort_unstable();
    assert_eq!(ids, files);
    assert!(
        found.iter().all(|item| item["status"] == "completed"),
        "{found:?}"
    );

    // Paging is for the provider's list: rows come whole.
    let rows = stack.client.get(&format!("{path}?limit=2")).await.expect(200);
    assert_eq!(rows["items"].as_array().unwrap().len(), 3, "{rows}");
    let elsewhere = stack.client.in_domain("another").get(&live).await;
    elsewhere.expect(404);

    stack
        .control()
        .add_fault(Rule {
            when: When {
                operation: Some("vector_stores.files.list".to_owned()),
                ..When::default()
            },
            then: Action::Respond {
                status: 401,
                headers: BTreeMap::default(),
                body: Some(json!({"error": {"message": "no", "type": "invalid_request_error"}})),
                text: None,
                after_effect: false,
            },
        })
        .unwrap();
    let failed = stack.client.get(&live).await;
    assert_eq!(failed.expect(502)["type"], "provider-failed");
}

#[tokio::test]
async fn the_status_tells_when_the_provider_was_last_looked_at() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    let status = async || {
        stack
            .client
            .get(&format!("/indexes/{index}/status"))
            .await
            .expect(200)
    };
    assert_eq!(status().await["provider_seen_seconds_ago"], json!(null));
    stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    let after = status().await;
    assert!(after["provider_seen_at"].is_string(), "{after}");
    assert!(
        after["provider_seen_seconds_ago"].as_u64().unwrap() < 60,
        "{after}"
    );
    assert_eq!(after["file_counts"]["completed"], 1, "{after}");
}
