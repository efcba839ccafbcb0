//! Faults of listings: none of them shortens a walk over all pages.

use rag_providers::{Effect, ErrorKind, ProviderExt};
use serde_json::json;

use crate::faults::{RETRY, openai_error, store_file};
use crate::server::{Server, json, status};

#[tokio::test]
async fn an_empty_page_that_claims_more_is_an_error() {
    let empty = json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": true});
    let server = Server::start([json(&empty)]).await;
    let error = server
        .provider("openai")
        .all_store_files("vs_1", None)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.effect, error.disposition()),
        (ErrorKind::Protocol, Effect::None, RETRY)
    );
}

#[tokio::test]
async fn a_repeated_cursor_is_an_error() {
    let list = json!({"object": "list", "data": [store_file("completed")], "first_id": "file-1",
        "last_id": "file-1", "has_more": true});
    let server = Server::start(vec![json(&list); 10]).await;
    let error = server
        .provider("openai")
        .all_store_files("vs_1", None)
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.disposition()), (ErrorKind::Protocol, RETRY));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_page_that_fails_in_the_middle_fails_the_walk() {
    let list = json!({"object": "list", "data": [store_file("completed")], "has_more": true});
    let server = Server::start([json(&list), status(403, &openai_error("forbidden"))]).await;
    let error = server
        .provider("openai")
        .all_store_files("vs_1", None)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
}
