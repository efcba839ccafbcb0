//! Builds when nothing goes wrong.

use std::time::Duration;

use rag_emulator::{Action, Effect, Rule, When};
use rag_tests::Stack;
use serde_json::json;

use crate::fixtures::indexes::{fixed, index_with, prose};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_index_is_built_with_each_files_own_strategy() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let index = client.create_index("handbook", "openai").await;
    let fine = client
        .upload("fine.md", &prose("alpha", 1000), Some(fixed(100, 50)))
        .await;
    let coarse = client
        .upload("coarse.md", &prose("beta", 1000), Some(fixed(1000, 0)))
        .await;
    let auto = client.upload("auto.md", &prose("gamma", 1000), None).await;
    for file in [&fine, &coarse, &auto] {
        client.link(&index, file).await;
    }
    assert_eq!(client.index(&index).await["indexing_status"], "not_indexed");

    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["progress"]["files_completed"], 3, "{job}");
    assert_eq!(job["attempts"], 0, "attempts count failures: {job}");
    let row = client.index(&index).await;
    assert_eq!(row["indexing_status"], "done");
    assert!(row["indexed_at"].is_string());

    let state = stack.control().state();
    assert_eq!(row["external_id"], json!(state.stores[0].id.to_string()));
    let chunks = |name: &str| {
        state.stores[0]
            .files
            .iter()
            .find(|file| &*file.filename == name)
            .unwrap()
            .chunks
    };
    assert!(
        chunks("fine.md") > chunks("auto.md") && chunks("auto.md") > chunks("coarse.md"),
        "{state:?}"
    );
    for item in client.provider_files(&index).await {
        assert_eq!(item["status"], "completed", "{item}");
    }
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn sizes_in_characters_are_sent_in_tokens() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let recursive = json!({"type": "recursive", "chunk_size": 1000, "chunk_overlap": 200});
    let index = client.create_index("handbook", "openai").await;
    let file = client
        .upload("rules.md", &prose("alpha", 1000), Some(recursive.clone()))
        .await;
    client.link(&index, &file).await;
    let row = client.get(&format!("/files/{file}")).await.expect(200);
    assert_eq!(
        (&row["chunking_strategy"], &row["chunking_strategy_sent"]),
        (&recursive, &fixed(250, 50)),
        "{row}"
    );
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let items = client.provider_files(&index).await;
    let proof = json!({"asked": fixed(250, 50), "reported": fixed(250, 50), "matches": true});
    assert_eq!(items[0]["chunking"], proof, "{items:?}");
    let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
    assert_eq!(status["file_counts"]["completed"], 1, "{status}");

    // The same tokens in other words change nothing; other sizes do.
    let path = format!("/files/{file}");
    let same = json!({"chunking_strategy": fixed(250, 50)});
    client.patch(&path, &same).await.expect(200);
    client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(effects(&stack, Effect::Attached).len(), 1);
    let other = json!({"chunking_strategy": {"type": "recursive", "chunk_size": 2000, "chunk_overlap": 0}});
    client.patch(&path, &other).await.expect(200);
    client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(effects(&stack, Effect::Attached).len(), 2);
    let items = client.provider_files(&index).await;
    assert_eq!(items[0]["chunking"]["reported"], fixed(500, 0), "{items:?}");

    for (refused, reason) in [
        (
            json!({"type": "recursive", "chunk_size": 399, "chunk_overlap": 0}),
            "between 400 and 16384",
        ),
        (
            json!({"type": "recursive", "chunk_size": 1000, "chunk_overlap": 501}),
            "half of chunk_size (500)",
        ),
        (json!({"type": "recursive", "chunk_size": 1000}), "chunk_overlap"),
        (json!({"type": "semantic"}), "semantic"),
    ] {
        let answer = client
            .patch(&path, &json!({"chunking_strategy": refused}))
            .await
            .expect(422);
        assert!(
            answer["errors"][0]["message"].as_str().unwrap().contains(reason),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn many_builds_at_once_are_one_job_and_one_store() {
    let stack = Stack::start().await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    let (index, _) = index_with(&stack, 3).await;
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let (client, index) = (stack.client.clone(), index.clone());
            tokio::spawn(async move { client.build(&index).await })
        })
        .collect();
    let mut jobs = Vec::new();
    for asked in asking {
        jobs.push(asked.await.unwrap());
    }
    for job in &jobs {
        assert_eq!(stack.client.finished(job, LIMIT).await["state"], "done");
    }
    assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 3);
    assert_eq!(effects(&stack, Effect::Attached).len(), 3);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_second_build_does_only_what_changed() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 4).await;
    client.finished(&client.build(&index).await, LIMIT).await;

    client.replace(&files[0], &prose("changed", 60)).await;
    client.unlink(&index, &files[1]).await;
    client
        .patch(
            &format!("/files/{}", files[2]),
            &json!({"chunking_strategy": fixed(200, 0)}),
        )
        .await
        .expect(200);
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");

    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        5,
        "only the changed file went up again"
    );
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        6,
        "changed bytes and changed strategy"
    );
    assert_eq!(
        effects(&stack, Effect::Detached).len(),
        3,
        "old bytes, unlinked, old strategy"
    );
    assert_eq!(
        effects(&stack, Effect::FileDeleted).len(),
        1,
        "the old bytes; the unlinked file's copy stays of use"
    );
    assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn an_old_version_leaves_only_after_the_new_one_is_in() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 1).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    client.replace(&files[0], &prose("changed", 60)).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    let indexed = effects(&stack, Effect::Indexed).pop().unwrap();
    let detached = effects(&stack, Effect::Detached).pop().unwrap();
    assert!(indexed.seq < detached.seq, "{indexed:?} {detached:?}");
}

#[tokio::test]
async fn an_empty_index_gets_its_store_and_is_done() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let index = stack.client.create_index("empty", "openai").await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
}

#[tokio::test]
async fn recreate_replaces_the_store_and_leaves_nothing_behind() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 2).await;
    client.finished(&client.build(&index).await, LIMIT).await;
    let first = client.index(&index).await["external_id"].clone();
    let answer = client
        .post(&format!("/indexes/{index}/build?recreate=true"), &json!({}))
        .await
        .expect(202);
    let job = client.finished(answer["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_ne!(client.index(&index).await["external_id"], first);
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        2,
        "the files themselves are still good"
    );
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn two_indexes_share_a_files_copy_and_each_index_its_own_domain() {
    let stack = Stack::start().await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    let client = &stack.client;
    let (first, files) = index_with(&stack, 5).await;
    let second = client.create_index("second", "openai").await;
    for file in &files {
        client.link(&second, file).await;
    }
    let jobs = [client.build(&first).await, client.build(&second).await];
    for job in &jobs {
        assert_eq!(
            client.finished(job, LIMIT).await["output"]["indexing_status"],
            "done"
        );
    }
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        5,
        "two workers at once upload a file once"
    );
    assert_no_orphans(&stack).await;

    //
    let stranger = client.in_domain("other");
    stranger.get(&format!("/indexes/{first}")).await.expect(404);
    stranger.get(&format!("/jobs/{}", jobs[0])).await.expect(404);
    stranger
        .post(&format!("/indexes/{first}/build"), &json!({}))
        .await
        .expect(404);
}

#[tokio::test]
async fn a_long_build_never_gets_in_its_own_way() {
    // Two hundred uploads side by side, with progress reports among them, must not wait for each other's transactions: the
    // lease would be lost.
    let stack = Stack::start().await;
    let delay = Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            ..When::default()
        },
        then: Action::Delay { ms: 80 },
    };
    stack.control().add_fault(delay).unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 200).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, Duration::from_mins(1))
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["history"], json!([]), "no lease was lost: {job}");
    assert_no_orphans(&stack).await;
}
