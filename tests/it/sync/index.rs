//! Syncs of one index and of a domain.

use std::time::{Duration, Instant};

use rag_emulator::{Action, Emulator, Rule, When};
use rag_tests::Stack;
use serde_json::{Value, json};

use crate::fixtures::external_changes::Other;
use crate::fixtures::faults::hold_indexing;
use crate::fixtures::indexes::{built, index_with, prose};
use crate::fixtures::jobs::{retry_now, sync, waited};

const LIMIT: Duration = Duration::from_mins(1);

/// The copies that we know of, by local file.
async fn copies(stack: &Stack) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM rag_provider_file_uploads")
        .fetch_one(&stack.database.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_sync_brings_payload_status_and_file_states() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 3).await;
    // nothing to look at yet.
    let path = format!("/indexes/{index}/sync");
    let refused = client.post(&path, &json!({})).await.expect(409);
    assert!(
        refused["detail"].as_str().unwrap().contains("no vector store"),
        "{refused}"
    );
    client
        .patch(
            &format!("/indexes/{index}"),
            &json!({"metadata": {"team": "ops", "level": 3}}),
        )
        .await
        .expect(200);
    let store = built(client, &index).await;
    let status = async || client.get(&format!("/indexes/{index}/status")).await.expect(200);
    let before = status().await;
    assert!(before["last_job_id"].is_string(), "{before}");

    let synced = sync(client, &index).await;
    let after = status().await;
    assert_eq!(after["last_job_id"], before["last_job_id"], "a sync is no build");
    let seen = |status: &Value| status["provider_seen_at"].as_str().unwrap().to_owned();
    assert!(seen(&after) > seen(&before), "{before} {after}");
    // the whole payload, and the caller's own keys.
    let metadata = &synced["metadata"];
    assert_eq!(metadata["provider_payload"]["id"], json!(store), "{synced}");
    assert_eq!(metadata["provider_payload"]["object"], "vector_store");
    assert_eq!(
        (&metadata["team"], &metadata["level"]),
        (&json!("ops"), &json!(3))
    );
    assert_eq!(synced["indexing_status"], "done");
    assert_eq!(synced["sync_report"]["file_counts"]["completed"], 3);
    assert_eq!(synced["job"]["state"], "done");

    // one failed file makes the index failed; when it has gone, the rest counts.
    let other = Other::at(&stack);
    let broken = other.create_file("broken.md", b"\0\0 no text").await;
    other.attach(&store, &broken, None).await;
    let synced = sync(client, &index).await;
    assert_eq!(synced["indexing_status"], "failed", "{synced}");
    assert!(
        synced["last_error"].as_str().unwrap().contains("1 of 4"),
        "{synced}"
    );
    assert_eq!(synced["sync_report"]["files_unknown"], 1);
    other.detach(&store, &broken).await;
    let synced = sync(client, &index).await;
    assert_eq!(
        (&synced["indexing_status"], &synced["last_error"]),
        (&json!("done"), &Value::Null)
    );

    // What others took out of the store is to be attached again by the next build, and by nobody else.
    let copy: String =
        sqlx::query_scalar("SELECT external_file_id FROM rag_provider_file_uploads WHERE local_file_id = ?")
            .bind(&files[0])
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
    other.detach(&store, &copy).await;
    let synced = sync(client, &index).await;
    assert_eq!(synced["sync_report"]["files_missing"], 1, "{synced}");
    assert_eq!(client.provider_files(&index).await.len(), 3, "the links stay");
    built(client, &index).await;
    let synced = sync(client, &index).await;
    assert_eq!(synced["sync_report"]["file_counts"]["completed"], 3, "{synced}");
}

#[tokio::test]
async fn a_fresh_sync_is_not_repeated_unless_forced() {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(5, 0.0).ledger_reads())
        .setting("INDEX_SYNC_FRESH_SECONDS", "60")
        .start()
        .await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    built(client, &index).await;
    let path = format!("/indexes/{index}/sync");
    let first = waited(client, &path).await;
    assert_eq!(first["sync_report"]["fresh"], false);
    let before = reads(&stack);
    let second = client.post(&path, &json!({})).await.expect(200);
    assert_eq!(second["sync_report"]["fresh"], true, "{second}");
    assert_eq!(second["job"], Value::Null);
    assert_eq!(reads(&stack), before, "nobody asked the provider");
    let third = sync(client, &index).await;
    assert_eq!(third["sync_report"]["fresh"], false);
    assert!(reads(&stack) > before);
}

fn reads(stack: &Stack) -> usize {
    let ledger = stack.control().ledger(&rag_emulator::LedgerQuery::default());
    ledger.iter().filter(|entry| &*entry.method == "GET").count()
}

#[tokio::test]
async fn a_sync_waits_for_its_turn_and_never_for_indexing() {
    let stack = Stack::start().await;
    stack.control().add_fault(hold_indexing("page", "build")).unwrap();
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 2).await;
    let build = client.build(&index).await;
    rag_tests::eventually("the store", LIMIT, || async {
        client.index(&index).await["external_id"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    let answer = client
        .post(&format!("/indexes/{index}/sync"), &json!({}))
        .await
        .expect(202);
    assert_eq!(answer["state"], "blocked", "a build is at work: {answer}");
    stack.control().open_gate("build");
    let job = client.finished(&build, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let synced = client.finished(answer["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(synced["output"]["indexing_status"], "done", "{synced}");

    // Somebody attaches a file that takes its time: the sync says so, and does not wait for it.
    let store = client.index(&index).await["external_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let never_indexed = Rule {
        when: When {
            filename: Some("slow".to_owned()),
            ..When::default()
        },
        then: Action::Stuck,
    };
    stack.control().add_fault(never_indexed).unwrap();
    let other = Other::at(&stack);
    let file = other.create_file("slow.md", b"some text").await;
    let url = format!("{}/vector_stores/{store}/files", stack.emulator.url());
    let request = reqwest::Client::new()
        .post(url)
        .bearer_auth(rag_tests::PROVIDER_KEY);
    assert!(
        request
            .json(&json!({"file_id": file}))
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let synced = sync(client, &index).await;
    assert_eq!(synced["indexing_status"], "in_progress", "{synced}");
}

#[tokio::test]
async fn an_index_whose_store_is_gone_is_detached_and_can_be_built_anew() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 2).await;
    let store = built(client, &index).await;
    // The second file's copy is of use to another index: that index must not lose it.
    let shared = client.create_index("shared", "openai").await;
    client.link(&shared, &files[1]).await;
    built(client, &shared).await;
    Other::at(&stack).delete_store(&store).await;

    let synced = sync(client, &index).await;
    assert_eq!(synced["sync_report"]["detached"], true, "{synced}");
    assert_eq!(
        (&synced["external_id"], &synced["indexing_status"]),
        (&Value::Null, &json!("not_indexed"))
    );
    assert!(
        synced["last_error"].as_str().unwrap().contains(&store),
        "{synced}"
    );
    assert_eq!(
        copies(&stack).await,
        1,
        "R-6.5, except for what another index needs"
    );
    let links = client.get(&format!("/indexes/{index}/files")).await.expect(200);
    assert_eq!(
        links["items"].as_array().unwrap().len(),
        2,
        "links and files stay"
    );
    client
        .post(&format!("/indexes/{index}/sync"), &json!({}))
        .await
        .expect(409);
    assert_ne!(built(client, &index).await, store);
    assert_eq!(sync(client, &shared).await["indexing_status"], "done");
}

#[tokio::test]
async fn a_listing_that_breaks_off_writes_nothing() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 2).await;
    built(client, &index).await;
    let rows = "SELECT COUNT(*) FROM rag_index_attachments WHERE state = 'completed'";
    let before = client.index(&index).await;
    let broken = Rule {
        when: When {
            operation: Some("vector_stores.files.list".to_owned()),
            ..When::default()
        },
        then: Action::EmptyPage { has_more: true },
    };
    stack.control().add_fault(broken).unwrap();
    let answer = client
        .post(&format!("/indexes/{index}/sync?force=true"), &json!({}))
        .await
        .expect(202);
    let id = answer["id"].as_str().unwrap().to_owned();
    rag_tests::eventually("a failed sync", LIMIT, || async {
        (client.job(&id).await["attempts"].as_u64() > Some(0)).then_some(())
    })
    .await;
    // But why it failed.
    let mut after = client.index(&index).await;
    let error = after["last_error"].take();
    assert!(error.as_str().unwrap().contains("an empty page"), "{error}");
    assert_eq!(after, before);
    let completed: i64 = sqlx::query_scalar(rows)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap();
    assert_eq!(completed, 2);
    stack.control().clear_faults();
    retry_now(client, &id).await;
    assert_eq!(client.finished(&id, LIMIT).await["state"], "done");
}

/// Indexes with one file each, built.
async fn many(stack: &Stack, count: usize) -> Vec<(String, String)> {
    let client = &stack.client;
    let mut made = Vec::new();
    for n in 0..count {
        let index = client.create_index(&format!("index-{n}"), "openai").await;
        let file = client
            .upload(&format!("file-{n}.md"), &prose(&format!("m{n}x"), 20), None)
            .await;
        client.link(&index, &file).await;
        let job = client.build(&index).await;
        made.push((index, job));
    }
    let mut indexes = Vec::new();
    for (index, job) in made {
        let job = client.finished(&job, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
        let store = client.index(&index).await["external_id"]
            .as_str()
            .unwrap()
            .to_owned();
        indexes.push((index, store));
    }
    indexes
}

#[tokio::test]
async fn a_domain_is_synced_as_a_whole_and_many_stores_gone_at_once_stop_it() {
    let stack = Stack::start().await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    let client = &stack.client;
    let indexes = many(&stack, 12).await;
    client.create_index("never built", "openai").await;
    let stranger = client.in_domain("other");
    let other = Other::at(&stack);
    other.delete_store(&indexes[0].1).await;

    // another domain's sync touches none of these.
    let nothing = waited(&stranger, "/indexes/sync").await;
    assert_eq!(nothing["items"], json!([]));
    assert!(client.index(&indexes[0].0).await["external_id"].is_string());

    let synced = waited(client, "/indexes/sync?provider_type=openai").await;
    assert_eq!(synced["errors"], json!([]), "{synced}");
    assert_eq!(synced["items"].as_array().unwrap().len(), 13);
    let output = &synced["job"]["output"];
    let count = |name: &str| output[name].as_u64().unwrap();
    assert_eq!(
        (
            count("indexes_total"),
            count("indexes_synced"),
            count("indexes_detached")
        ),
        (12, 11, 1),
        "{output}"
    );
    assert_eq!(synced["job"]["sync_progress"]["items_done"], 12);
    assert_eq!(client.index(&indexes[0].0).await["external_id"], Value::Null);

    for (_, store) in &indexes[1..6] {
        other.delete_store(store).await;
    }
    let stopped = waited(client, "/indexes/sync?force=false").await;
    // All were looked at a moment ago: freshness spares the provider.
    assert_eq!(stopped["job"]["output"]["indexes_fresh"], 11, "{stopped}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let stopped = waited(client, "/indexes/sync").await;
    assert!(
        stopped["errors"][0].as_str().unwrap().contains("force=true"),
        "{stopped}"
    );
    assert!(
        client.index(&indexes[1].0).await["external_id"].is_string(),
        "nothing was detached"
    );
    let forced = waited(client, "/indexes/sync?force=true").await;
    assert_eq!(forced["job"]["output"]["indexes_detached"], 5, "{forced}");
    for (index, _) in &indexes[1..6] {
        assert_eq!(client.index(index).await["external_id"], Value::Null);
    }
}

#[tokio::test]
async fn the_schedule_starts_one_sync_for_the_whole_fleet() {
    const EVERY: u64 = 2;
    let stack = Stack::builder()
        .setting("INDEX_SYNC_EVERY_SECONDS", &EVERY.to_string())
        .setting("PROVIDER_SYNC_EVERY_SECONDS", &EVERY.to_string())
        .start()
        .await;
    let begun = Instant::now();
    let _workers = [stack.worker("one"), stack.worker("two"), stack.worker("three")];
    let (index, _) = index_with(&stack, 1).await;
    built(&stack.client, &index).await;
    let count = async |kind: &str| -> i64 {
        sqlx::query_scalar("SELECT COUNT(*) FROM queue_jobs WHERE kind = ?")
            .bind(kind)
            .fetch_one(&stack.database.pool)
            .await
            .unwrap()
    };
    for kind in ["domain_sync", "provider_sync"] {
        rag_tests::eventually("three syncs", LIMIT, || async {
            (count(kind).await >= 3).then_some(())
        })
        .await;
        let (started, rounds) = (count(kind).await, begun.elapsed().as_secs() / EVERY + 1);
        assert!(
            u64::try_from(started).unwrap() <= rounds,
            "{kind}: {started} in {rounds} rounds of {EVERY} seconds"
        );
    }
    rag_tests::eventually("a sync of the index", LIMIT, || async {
        let synced = stack.client.index(&index).await;
        synced["metadata"]["provider_payload"].is_object().then_some(())
    })
    .await;
}
