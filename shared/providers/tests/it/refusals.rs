//! What providers say when they refuse: who is absent, what is exhausted, and why.

use std::time::Duration;

use rag_providers::{Disposition, Effect, ErrorKind, Exhaustion, NewVectorStore, ProviderExt as _};
use serde_json::{Value, json};

use crate::server::{Server, json, status, text};

fn says(code: u16, message: &str) -> crate::server::Reply {
    status(
        code,
        &json!({"error": {"message": message, "type": "invalid_request_error"}}),
    )
}

#[tokio::test]
async fn a_400_that_names_what_is_absent_is_as_good_as_a_404() {
    let server = Server::start([
        says(400, "File file-1 not found in vector store vs_1"),
        says(400, "Vector Store 'vs_1' not found."),
        says(
            400,
            "Invalid 'batch_id': 'nonsense'. Expected an ID that begins with 'vsfb_'.",
        ),
        says(404, "Something was not found."),
        status(404, &json!({"detail": "Not Found"})),
        says(400, "Something is wrong with file-1."),
    ])
    .await;
    let provider = server.provider("openai");
    let detached = provider.detach_file("vs_1", "file-1").await.unwrap();
    assert!(!detached.existed);
    let error = provider.get_vector_store("vs_1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.says_absent("vs_1") && !error.says_absent("vs_2"));
    let error = provider.get_file_batch("vs_1", "nonsense").await.unwrap_err();
    assert!(error.says_absent("nonsense"), "{error:?}");
    let error = provider.get_vector_store("vs_1").await.unwrap_err();
    assert_eq!(
        (error.kind, error.says_absent("vs_1")),
        (ErrorKind::NotFound, false),
        "proves nothing"
    );
    let error = provider.get_file_batch("vs_1", "vsfb_1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported, "the route is missing");
    let error = provider.detach_file("vs_1", "file-1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn an_exhausted_account_is_typed_in_whatever_status() {
    let server = Server::start([
        says(400, "Storage quota exceeded: the project's storage is full."),
        status(
            429,
            &json!({"error": {"message": "x - {'code': 'insufficient_quota'}", "type": "throttling_error"}}),
        ),
        status(507, &json!({})),
        says(400, "A store named 'storage is full' exists"),
    ])
    .await;
    let provider = server.provider("openai");
    for what in [Exhaustion::Storage, Exhaustion::Quota, Exhaustion::Storage] {
        let error = provider
            .create_vector_store(NewVectorStore::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.exhausted),
            (ErrorKind::QuotaExceeded, Some(what)),
            "{error}"
        );
        assert_eq!(error.disposition(), Disposition::WaitForOperator);
    }
    let named = NewVectorStore {
        name: Some("storage is full".to_owned()),
        ..NewVectorStore::default()
    };
    let error = provider.create_vector_store(named).await.unwrap_err();
    assert_eq!((error.kind, error.exhausted), (ErrorKind::InvalidRequest, None));
}

#[tokio::test]
async fn an_id_that_no_row_can_hold_is_no_answer() {
    let store = |id: &str| json(&json!({"id": id, "object": "vector_store", "status": "completed"}));
    let server = Server::start([
        store(&"x".repeat(255)),
        store(&"x".repeat(256)),
        store("a b"),
        store("я"),
    ])
    .await;
    let provider = server.provider("openai");
    let create = || provider.create_vector_store(NewVectorStore::default());
    assert_eq!(create().await.unwrap().id.len(), 255);
    for words in [
        "256 characters",
        "characters that no id has",
        "characters that no id has",
    ] {
        let error = create().await.unwrap_err();
        assert_eq!((error.kind, error.effect), (ErrorKind::Protocol, Effect::Unknown));
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_providers_words_are_cut_where_they_enter() {
    let file = json!({
        "id": "file-1", "object": "vector_store.file", "status": "x".repeat(300), "vector_store_id": "vs_1",
        "last_error": {"code": "c".repeat(300), "message": "m".repeat(100_000)},
    });
    let server = Server::start([json(
        &json!({"object": "list", "data": [file], "has_more": false}),
    )])
    .await;
    let listed = server
        .provider("openai")
        .all_store_files("vs_1", None)
        .await
        .unwrap();
    let error = listed[0].last_error.as_ref().unwrap();
    let lengths = [listed[0].status.as_str(), &error.code, &error.message].map(|text| text.chars().count());
    assert_eq!(lengths, [64, 64, 2000]);
}

#[tokio::test]
async fn a_gateways_hint_is_heard() {
    let limited = status(429, &json!({"error": {"message": "slow"}})).header("llm_provider-retry-after", "7");
    let body: Value = json!({"error": {"message": "Slow down", "code": "slow_down"}});
    let server = Server::start([limited, status(503, &body)]).await;
    let provider = server.provider("openai");
    let error = provider
        .create_vector_store(NewVectorStore::default())
        .await
        .unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    let error = provider
        .create_vector_store(NewVectorStore::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::RateLimited, Effect::Unknown)
    );
}

#[tokio::test]
async fn a_page_of_a_proxy_is_no_verdict_on_existence() {
    let server = Server::start([text(404, "<html>no such site</html>")]).await;
    let error = server
        .provider("openai")
        .get_vector_store("vs_1")
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Protocol);
}
