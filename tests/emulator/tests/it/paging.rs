//! Lists in pages.

use crate::support::{ids, start};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn every_limit_and_order_walks_through_everything_once() {
    let client = start().await;
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(client.upload(&format!("{n}.txt"), "text").await);
    }
    for order in ["asc", "desc"] {
        for limit in [1, 2, 3, 6, 7, 8, 10_000] {
            let mut seen = Vec::new();
            let mut after = String::new();
            loop {
                let page = client
                    .get(&format!("/files?order={order}&limit={limit}{after}"))
                    .await;
                assert_eq!(page["first_id"], page["data"][0]["id"]);
                seen.extend(ids(&page));
                if page["has_more"] == false {
                    break;
                }
                after = format!("&after={}", page["last_id"].as_str().unwrap());
            }
            let mut expected = made.clone();
            if order == "desc" {
                expected.reverse();
            }
            assert_eq!(seen, expected, "order {order} limit {limit}");
        }
    }
}

#[tokio::test]
async fn before_walks_back_and_after_survives_deletion() {
    let client = start().await;
    let mut stores = Vec::new();
    for _ in 0..5 {
        stores.push(client.store().await);
    }
    let page = client
        .get(&format!("/vector_stores?order=asc&limit=2&before={}", stores[4]))
        .await;
    assert_eq!(
        (ids(&page), page["has_more"].clone()),
        (stores[2..4].to_vec(), Value::Bool(true))
    );
    let page = client
        .get(&format!("/vector_stores?order=desc&limit=3&before={}", stores[2]))
        .await;
    assert_eq!(ids(&page), [stores[4].clone(), stores[3].clone()]);
    assert_eq!(page["has_more"], false);
    let between = format!(
        "/vector_stores?order=asc&after={}&before={}",
        stores[0], stores[3]
    );
    assert_eq!(ids(&client.get(&between).await), stores[1..3]);

    let crossed = format!(
        "/vector_stores?order=asc&after={}&before={}",
        stores[3], stores[0]
    );
    assert!(ids(&client.get(&crossed).await).is_empty());

    client.delete(&format!("/vector_stores/{}", stores[1])).await;
    let page = client
        .get(&format!("/vector_stores?order=asc&after={}", stores[1]))
        .await;
    assert_eq!(ids(&page), stores[2..]);
}

#[tokio::test]
async fn an_empty_list_has_null_cursors() {
    let client = start().await;
    let expected =
        json!({ "object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false });
    assert_eq!(client.get("/files").await, expected);
}

#[tokio::test]
async fn limits_outside_the_bounds_are_refused() {
    let client = start().await;
    let store = client.store().await;
    let files = format!("/vector_stores/{store}/files");
    for (path, limit, code) in [
        ("/files", "0", "integer_below_min_value"),
        ("/files", "10001", "integer_above_max_value"),
        ("/vector_stores", "101", "integer_above_max_value"),
        ("/vector_stores", "-1", "integer_below_min_value"),
        ("/vector_stores", "many", "invalid_type"),
        (&files, "101", "integer_above_max_value"),
    ] {
        let (status, error) = client
            .refused(Method::GET, &format!("{path}?limit={limit}"), None)
            .await;
        assert_eq!(
            (status, &error["param"], &error["code"]),
            (400, &json!("limit"), &json!(code)),
            "{path} {limit}"
        );
    }
    for query in ["order=up", "after=vs_nope", "before=vs_nope"] {
        assert_eq!(
            client
                .refused(Method::GET, &format!("/vector_stores?{query}"), None)
                .await
                .0,
            400,
            "{query}"
        );
    }
    assert_eq!(
        client
            .refused(Method::GET, &format!("{files}?filter=broken"), None)
            .await
            .0,
        400
    );
    assert_eq!(client.refused(Method::GET, "/files?before=x", None).await.0, 400);
}
