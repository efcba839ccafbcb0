//! Single deviations from OpenAI, where one request does not show them, and what is refused before a body was read.

use rag_emulator::{Action, Deviations, Emulator, Loss, Options, Profile, RetryAfter, Rule, When};
use reqwest::Method;
use serde_json::json;

use crate::support::{id, start, with, words};

fn on(operation: &str, then: Action) -> Rule {
    let when = When {
        operation: Some(operation.to_owned()),
        times: Some(1),
        ..When::default()
    };
    Rule { when, then }
}

#[tokio::test]
async fn a_switch_stands_alone() {
    let options = Options {
        deviations: Deviations {
            mangle_names: true,
            ..Deviations::default()
        },
        ..Options::default()
    };
    let client = with(Emulator::builder().options(options)).await;
    let file = client.upload("Имя 1.md", "text").await;
    assert_eq!(
        client.get(&format!("/files/{file}")).await["filename"],
        "____1.md"
    );
    // All else is as OpenAI does it.
    let (status, _) = client.refused(Method::GET, "/vector_stores/vs_none", None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn ids_of_a_wrong_form_are_told_from_ids_that_name_nothing() {
    let client = start().await;
    let store = client.store().await;
    for (path, status, message) in [
        (
            "/vector_stores/x".to_owned(),
            400,
            "Invalid 'vector_store_id': 'x'. Expected an ID that begins with 'vs_'.",
        ),
        (
            format!("/vector_stores/{store}/file_batches/x"),
            400,
            "Invalid 'batch_id': 'x'. Expected an ID that begins with 'vsfb_'.",
        ),
        (
            format!("/vector_stores/{store}/files/x"),
            400,
            "Invalid 'file_id': 'x'. Expected an ID that begins with 'file'.",
        ),
        (
            "/vector_stores/vs_x".to_owned(),
            404,
            "Vector store with id 'vs_x' not found.",
        ),
        ("/files/x".to_owned(), 404, "No such File object: x"),
    ] {
        let (seen, error) = client.refused(Method::GET, &path, None).await;
        assert_eq!((seen, &error["message"]), (status, &json!(message)), "{path}");
    }
}

#[tokio::test]
async fn nulls_are_as_good_as_nothing() {
    let client = start().await;
    let body = json!({"name": "store", "file_ids": null, "metadata": null, "expires_after": null, "chunking_strategy": null});
    let store = id(&client.post("/vector_stores", body).await);
    let file = client.upload("a.txt", words(20)).await;
    let body = json!({"file_id": file, "attributes": null, "chunking_strategy": null});
    client.post(&format!("/vector_stores/{store}/files"), body).await;
    client.settled(&store, &file).await;
    let body = json!({
        "query": "w1", "filters": null, "max_num_results": null, "ranking_options": null, "rewrite_query": null,
    });
    client.post(&format!("/vector_stores/{store}/search"), body).await;
}

#[tokio::test]
async fn a_gateway_uploads_again_what_it_heard_nothing_of() {
    let client = with(Emulator::builder().profile(Profile::Litellm)).await;
    client
        .emulator
        .control()
        .add_fault(on("files.create", Action::LoseAnswer { how: Loss::Close }))
        .unwrap();
    let file = client.upload("a.txt", words(20)).await;
    let files = client.emulator.control().state().files;
    assert_eq!(files.len(), 2, "two files");
    assert_eq!(*files[1].id, *file, "of which the client hears of the second");
}

#[tokio::test]
async fn a_gateway_renames_when_to_try_again_or_drops_it() {
    let client = with(Emulator::builder().profile(Profile::Litellm)).await;
    let limited = || Action::RateLimit {
        retry_after: Some(RetryAfter::Seconds(7)),
    };
    for (path, operation, expected) in [
        ("/vector_stores", "vector_stores.list", Some("7")),
        ("/files", "files.list", None),
    ] {
        client
            .emulator
            .control()
            .add_fault(on(operation, limited()))
            .unwrap();
        let answer = client.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 429, "{path}");
        let renamed = answer.headers().get("llm_provider-retry-after");
        assert_eq!(renamed.map(|value| value.to_str().unwrap()), expected, "{path}");
        assert!(!answer.headers().contains_key("retry-after"), "{path}");
    }
}

#[tokio::test]
async fn a_quota_ends_in_the_message_of_a_gateway() {
    let client = with(Emulator::builder().profile(Profile::Litellm)).await;
    client
        .emulator
        .control()
        .add_fault(on("vector_stores.create", Action::Quota))
        .unwrap();
    let (status, error) = client.refused_post("/vector_stores", json!({"name": "a"})).await;
    assert_eq!(
        (status, &error["type"]),
        (429, &json!("throttling_error")),
        "{error}"
    );
    assert_eq!(error["code"], "429", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("insufficient_quota"),
        "{error}"
    );
}

/// A store that forgot its own keys indexes nothing any more.
#[tokio::test]
async fn metadata_without_the_servers_own_keys_breaks_later_attaches() {
    let client = with(Emulator::builder().profile(Profile::Ogx).indexing(1, 0.0)).await;
    let store = client.store().await;
    let path = format!("/vector_stores/{store}");
    let mut metadata = client.get(&path).await["metadata"].clone();
    metadata["mine"] = json!("yes");
    client.post(&path, json!({ "metadata": metadata })).await;
    let attach = async || {
        let file = client.upload("a.txt", words(20)).await;
        client
            .post(&format!("{path}/files"), json!({ "file_id": file }))
            .await["status"]
            .clone()
    };
    assert_eq!(attach().await, "completed", "read, merged, written");
    client.post(&path, json!({ "metadata": {"mine": "no"} })).await;
    assert_eq!(attach().await, "failed");
}

/// The rest of a refused body must not be taken for the next request, nor the connection end without a word.
#[tokio::test]
async fn a_refusal_before_the_body_leaves_the_connection_usable_or_says_so() {
    let mut client = with(Emulator::builder().api_key("right")).await;
    for length in [200_000, 8 << 20] {
        for n in 0..15 {
            client.set_authorization("Bearer wrong");
            let refusal = client
                .upload_request("a.txt", vec![b'x'; length])
                .send()
                .await
                .unwrap();
            assert_eq!(refusal.status(), 401);
            let closes = refusal
                .headers()
                .get("connection")
                .is_some_and(|value| value == "close");
            assert!(
                closes == (length > 1 << 20),
                "{length} bytes: {:?}",
                refusal.headers()
            );
            refusal.bytes().await.unwrap();
            client.set_authorization("Bearer right");
            let next: Result<reqwest::Response, _> = client
                .request(Method::POST, "/vector_stores")
                .json(&json!({}))
                .send()
                .await;
            assert!(
                next.is_ok_and(|next| next.status() == 200),
                "request {n} after a refusal of {length} bytes"
            );
        }
    }
}
