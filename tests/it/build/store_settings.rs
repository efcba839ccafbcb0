//! Settings of a store, names of files, and stores that have expired: what a build compares and pushes.

use std::time::Duration;

use rag_emulator::{Action, Effect, Rule, When};
use rag_tests::{PROVIDER_KEY, Stack};
use serde_json::{Value, json};

use crate::fixtures::indexes::{index_with, prose};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);

async fn built(stack: &Stack, index: &str, query: &str) -> Value {
    let path = format!("/indexes/{index}/build{query}");
    let answer = stack.client.post(&path, &json!({})).await.expect(202);
    stack.client.finished(answer["id"].as_str().unwrap(), LIMIT).await
}

async fn plan(stack: &Stack, index: &str) -> Value {
    let path = format!("/indexes/{index}/build?dry_run=true");
    stack.client.post(&path, &json!({})).await.expect(200)
}

async fn store_id(stack: &Stack, index: &str) -> String {
    let row = stack.client.index(index).await;
    row["external_id"].as_str().unwrap().to_owned()
}

/// As the provider shows it.
async fn store(stack: &Stack, id: &str) -> Value {
    let url = format!("{}/vector_stores/{id}", stack.emulator.url());
    let request = reqwest::Client::new().get(url).bearer_auth(PROVIDER_KEY);
    request.send().await.unwrap().json().await.unwrap()
}

async fn update_store(stack: &Stack, id: &str, body: Value) {
    let url = format!("{}/vector_stores/{id}", stack.emulator.url());
    let request = reqwest::Client::new().post(url).bearer_auth(PROVIDER_KEY);
    request
        .json(&body)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
}

fn fields(plan: &Value) -> Vec<&str> {
    let settings = plan["settings"].as_array().unwrap();
    settings
        .iter()
        .map(|line| line["field"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn changed_settings_reach_the_store_with_the_next_build() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 1).await;
    let first = json!({"metadata": {"team": "ops", "old": "1"}, "expires_after": {"anchor": "last_active_at", "days": 3}});
    client
        .patch(&format!("/indexes/{index}"), &first)
        .await
        .expect(200);
    built(&stack, &index, "").await;
    let id = store_id(&stack, &index).await;
    assert!(fields(&plan(&stack, &index).await).is_empty());
    // A server may keep things of its own among the pairs.
    let mut pairs = store(&stack, &id).await["metadata"].clone();
    pairs["provider_id"] = json!("faiss");
    update_store(&stack, &id, json!({"metadata": pairs})).await;

    let second = json!({"name": "renamed", "expires_after": null, "metadata": {"team": "dev"}});
    client
        .patch(&format!("/indexes/{index}"), &second)
        .await
        .expect(200);
    let dry = plan(&stack, &index).await;
    assert_eq!(fields(&dry), ["name", "expires_after", "metadata"], "{dry}");

    // A sync in between takes nothing back that no build has pushed yet.
    crate::fixtures::jobs::provider_sync(&stack, "").await;
    let row = client.index(&index).await;
    assert_eq!(
        (&row["name"], &row["expires_after"]),
        (&json!("renamed"), &json!(null)),
        "{row}"
    );
    assert_eq!(row["metadata"]["team"], "dev", "{row}");
    assert_eq!(row["metadata"]["old"], json!(null), "{row}");

    let job = built(&stack, &index, "").await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let there = store(&stack, &id).await;
    assert_eq!(there["name"], "renamed", "{there}");
    assert_eq!(there["expires_after"], json!(null), "{there}");
    assert_eq!(there["metadata"]["team"], "dev", "{there}");
    assert_eq!(there["metadata"]["old"], json!(null), "{there}");
    assert_eq!(there["metadata"]["provider_id"], "faiss", "{there}");
    assert!(there["metadata"]["rag_index_id"].is_string(), "{there}");
    assert!(fields(&plan(&stack, &index).await).is_empty());
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_renamed_file_goes_up_under_its_new_name() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 1).await;
    let file = client.upload("noext", &prose("n", 40), None).await;
    client.link(&index, &file).await;
    built(&stack, &index, "").await;
    let rename = json!({"file_name": "Ünter uns.txt"});
    client.patch(&format!("/files/{file}"), &rename).await.expect(200);
    let rename = json!({"file_name": "page zero.md"});
    client
        .patch(&format!("/files/{}", files[0]), &rename)
        .await
        .expect(200);
    let dry = plan(&stack, &index).await;
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap();
        list.iter()
            .map(|file| file["file_name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&dry["upload"]), ["page zero.md", "Ünter uns.txt"], "{dry}");
    let reasons: Vec<&Value> = dry["detach"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| &line["reason"])
        .collect();
    assert!(reasons.contains(&&json!("renamed")), "{dry}");
    let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
    assert_eq!(status["file_counts"]["pending"], 2, "{status}");
    // Whatever the server makes of the name.
    let fields = json!({"filename": "_nter_uns.txt"}).as_object().unwrap().clone();
    stack
        .control()
        .add_fault(Rule {
            when: When {
                operation: Some("files.create".to_owned()),
                ..When::default()
            },
            then: Action::MergeJson { fields },
        })
        .unwrap();
    let job = built(&stack, &index, "").await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let names: Vec<String> = stack.control().state().stores[0]
        .files
        .iter()
        .map(|file| file.filename.to_string())
        .collect();
    assert!(
        names.contains(&"Ünter uns.txt".to_owned())
            && names.contains(&"page zero.md".to_owned())
            && names.len() == 2,
        "{names:?}"
    );
    built(&stack, &index, "").await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 4, "and not again");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn an_expired_store_is_told_and_recreated_on_request() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 2).await;
    built(&stack, &index, "").await;
    let id = store_id(&stack, &index).await;
    let expired = json!({"status": "expired"}).as_object().unwrap().clone();
    let refusal = json!({"error": {"message": format!("Vector store {id} is expired."), "type": "invalid_request_error"}});
    for (operation, then) in [
        ("vector_stores.retrieve", Action::MergeJson { fields: expired }),
        // What it lists says nothing any more.
        ("vector_stores.files.list", Action::EmptyPage { has_more: false }),
        (
            "vector_stores.search",
            Action::Respond {
                status: 400,
                headers: std::collections::BTreeMap::default(),
                body: Some(refusal),
                text: None,
                after_effect: false,
            },
        ),
    ] {
        stack
            .control()
            .add_fault(Rule {
                when: When {
                    operation: Some(operation.to_owned()),
                    path: Some(id.clone()),
                    ..When::default()
                },
                then,
            })
            .unwrap();
    }

    let query = json!({"query": "w0x1"});
    let search = client
        .post(&format!("/indexes/{index}/search"), &query)
        .await
        .expect(409);
    assert!(
        search["detail"].as_str().unwrap().contains("recreate=true"),
        "{search}"
    );

    let answer = client
        .post(&format!("/indexes/{index}/sync"), &json!({}))
        .await
        .expect(202);
    client.finished(answer["id"].as_str().unwrap(), LIMIT).await;
    let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
    assert_eq!(status["vector_store"]["state"], "expired", "{status}");
    assert!(
        status["vector_store"]["way_out"]
            .as_str()
            .unwrap()
            .contains("recreate=true"),
        "{status}"
    );
    assert_eq!(
        (&status["indexing_status"], &status["file_counts"]["completed"]),
        (&json!("done"), &json!(2)),
        "no file is taken for gone: {status}"
    );
    assert_eq!(plan(&stack, &index).await["vector_store"], "expired");

    let job = built(&stack, &index, "").await;
    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["attempts"], 1, "at once: {job}");
    let error = job["last_error"].as_str().unwrap();
    assert!(
        error.contains("expired") && error.contains("recreate=true"),
        "{job}"
    );

    let job = built(&stack, &index, "?recreate=true").await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_ne!(store_id(&stack, &index).await, id);
    let status = client.get(&format!("/indexes/{index}/status")).await.expect(200);
    assert_eq!(status["vector_store"]["state"], "live", "{status}");
    client
        .post(&format!("/indexes/{index}/search"), &query)
        .await
        .expect(200);
    assert_no_orphans(&stack).await;
}
