//! Files in stores: indexing, counts, strategies, failures.

use crate::support::{fixed, id, ids, start, with, words};
use rag_emulator::{Emulator, Options};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn chunk_counts_differ_by_strategy() {
    let client = start().await;
    let store = client.store().await;
    let text = words(2000);
    for (strategy, chunks) in [
        (json!({ "type": "auto" }), 4),
        (fixed(100, 0), 20),
        (fixed(100, 50), 39),
        (fixed(4096, 2048), 1),
    ] {
        let file = client.upload("text.txt", text.clone()).await;
        let done = client
            .attach(&store, json!({ "file_id": file, "chunking_strategy": strategy }))
            .await;
        let inside = client.inside(&store, &file);
        assert_eq!((inside.chunks, inside.tokens), (chunks, 2000), "{strategy}");
        let shown = if strategy["type"] == "auto" {
            fixed(800, 400)
        } else {
            strategy
        };
        assert_eq!(done["chunking_strategy"], shown);
        assert_eq!(done["usage_bytes"].as_u64(), Some(inside.usage_bytes));
    }
}

#[tokio::test]
async fn strategies_out_of_bounds_are_refused() {
    let client = start().await;
    let (store, file) = (client.store().await, client.upload("a.txt", "text").await);
    let nested = json!({ "type": "static", "max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0 });
    for strategy in [
        fixed(99, 0),
        fixed(4097, 0),
        fixed(100, 51),
        json!({ "type": "other" }),
        nested,
    ] {
        let body = json!({ "file_id": file, "chunking_strategy": strategy });
        assert_eq!(
            client
                .refused_post(&format!("/vector_stores/{store}/files"), body)
                .await
                .0,
            400,
            "{strategy}"
        );
    }
}

#[tokio::test]
async fn counts_and_bytes_are_right_at_every_moment() {
    let client = start().await;
    client.hold_indexing("store");
    let mut files = Vec::new();
    for (name, bytes) in [("a.txt", "some text"), ("b.pdf", "%PDF"), ("c.txt", "more")] {
        files.push(client.upload(name, bytes).await);
    }
    let store = client.post("/vector_stores", json!({ "file_ids": files })).await;
    assert_eq!(
        (&store["status"], &store["usage_bytes"]),
        (&json!("in_progress"), &json!(0))
    );
    assert_eq!(
        store["file_counts"],
        json!({ "in_progress": 3, "completed": 0, "failed": 0, "cancelled": 0, "total": 3 })
    );
    let store = id(&store);
    client
        .delete(&format!("/vector_stores/{store}/files/{}", files[2]))
        .await;
    client.open_gate("store");
    client.settled(&store, &files[0]).await;
    client.settled(&store, &files[1]).await;
    let shown = client.get(&format!("/vector_stores/{store}")).await;
    let counts = json!({ "in_progress": 0, "completed": 1, "failed": 1, "cancelled": 0, "total": 2 });
    assert_eq!(
        (&shown["file_counts"], &shown["status"]),
        (&counts, &json!("completed"))
    );
    assert_eq!(
        shown["usage_bytes"].as_u64(),
        Some(client.inside(&store, &files[0]).usage_bytes)
    );

    client.delete(&format!("/files/{}", files[0])).await;
    let shown = client.get(&format!("/vector_stores/{store}")).await;
    assert_eq!(
        (&shown["file_counts"]["total"], &shown["usage_bytes"]),
        (&json!(1), &json!(0))
    );
    let failed = client
        .get(&format!("/vector_stores/{store}/files?filter=failed"))
        .await;
    assert_eq!(ids(&failed), [files[1].clone()]);
    client.delete(&format!("/vector_stores/{store}")).await;
    assert_eq!(
        client.get(&format!("/files/{}", files[1])).await["id"],
        json!(files[1])
    );
}

#[tokio::test]
async fn what_is_no_text_fails_with_a_code() {
    let client = start().await;
    let store = client.store().await;
    for (name, bytes, code) in [
        ("scan.pdf", b"%PDF-1.7".to_vec(), "unsupported_file"),
        ("table.xlsx", b"PK".to_vec(), "unsupported_file"),
        ("README", b"text".to_vec(), "unsupported_file"),
        ("latin1.txt", b"caf\xe9".to_vec(), "invalid_file"),
        ("binary.txt", b"a\0b".to_vec(), "invalid_file"),
        ("empty.txt", Vec::new(), "invalid_file"),
        ("blank.md", b" \n ".to_vec(), "invalid_file"),
    ] {
        let file = client.upload(name, bytes).await;
        let failed = client.attach(&store, json!({ "file_id": file })).await;
        assert_eq!(
            (&failed["status"], &failed["last_error"]["code"]),
            (&json!("failed"), &json!(code)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn indexing_takes_its_time_and_only_so_many_at_once() {
    let options = Options {
        indexing_ms_base: 100,
        indexing_parallelism: 2,
        ..Options::default()
    };
    let client = with(Emulator::builder().options(options)).await;
    let store = client.store().await;
    let mut files = Vec::new();
    for n in 0..4 {
        files.push(client.upload(&format!("{n}.txt"), "text").await);
    }
    let started = Instant::now();
    client
        .post(
            &format!("/vector_stores/{store}/file_batches"),
            json!({ "file_ids": files }),
        )
        .await;
    for file in &files {
        client.settled(&store, file).await;
    }
    assert!(
        started.elapsed() >= Duration::from_millis(200),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn attaching_again_changes_only_what_differs() {
    let client = start().await;
    let (store, file) = (client.store().await, client.upload("a.txt", words(300)).await);
    let first = client.attach(&store, json!({ "file_id": file })).await;
    let again = client.attach(&store, json!({ "file_id": file })).await;
    assert_eq!(first, again);
    client
        .attach(
            &store,
            json!({ "file_id": file, "chunking_strategy": fixed(100, 0) }),
        )
        .await;
    assert_eq!(client.inside(&store, &file).chunks, 3);
    assert_eq!(
        client.get(&format!("/vector_stores/{store}")).await["file_counts"]["total"],
        1
    );
}

#[tokio::test]
async fn metadata_and_attributes_have_bounds() {
    let client = start().await;
    let (store, file) = (client.store().await, client.upload("a.txt", "text").await);
    let many: Value = (0..17)
        .map(|n| (format!("k{n}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for bad in [
        many,
        json!({ "k": "v".repeat(513) }),
        json!({ "k".repeat(65): "v" }),
        json!({ "k": ["v"] }),
    ] {
        assert_eq!(
            client
                .refused_post("/vector_stores", json!({ "metadata": bad }))
                .await
                .0,
            400
        );
        let body = json!({ "file_id": file, "attributes": bad });
        assert_eq!(
            client
                .refused_post(&format!("/vector_stores/{store}/files"), body)
                .await
                .0,
            400
        );
    }
    assert_eq!(
        client
            .refused_post("/vector_stores", json!({ "metadata": { "k": 1 } }))
            .await
            .0,
        400
    );
    let attributes = json!({ "text": "v", "number": 1.5, "flag": true });
    let done = client
        .attach(&store, json!({ "file_id": file, "attributes": attributes }))
        .await;
    assert_eq!(done["attributes"], attributes);
    let (status, error) = client
        .refused_post("/vector_stores", json!({ "colour": "red" }))
        .await;
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("unknown_parameter"), &json!("colour"))
    );
}

#[tokio::test]
async fn deleting_a_file_may_leave_it_in_its_stores() {
    let options = Options {
        keep_attached_on_delete: true,
        indexing_ms_base: 1,
        ..Options::default()
    };
    let client = with(Emulator::builder().options(options)).await;
    let (store, file) = (client.store().await, client.upload("a.txt", "needle").await);
    client.attach(&store, json!({ "file_id": file })).await;
    client.delete(&format!("/files/{file}")).await;
    assert_eq!(
        client
            .refused(Method::GET, &format!("/files/{file}"), None)
            .await
            .0,
        404
    );
    assert_eq!(
        client.get(&format!("/vector_stores/{store}")).await["file_counts"]["total"],
        1
    );
    let found = client
        .post(
            &format!("/vector_stores/{store}/search"),
            json!({ "query": "needle" }),
        )
        .await;
    assert_eq!(found["data"][0]["content"][0]["text"], "needle");
}
