//! The quirks of Yandex, one by one, against a scripted server.

use rag_providers::{
    ALREADY_ATTACHED, AttachFile, ChunkingStrategy, Effect, ErrorKind, PageRequest, Registry, StoreFileStatus,
};
use serde_json::{Value, json};

use crate::server::{KEY, Server, json, status, text};

fn store_file(id: &str, file_id: &str) -> Value {
    json!({"id": id, "object": "vector_store.file", "usage_bytes": 1, "created_at": 1_700_000_000, "valid": true,
        "vector_store_id": "fvtstore000000000000", "file_id": file_id, "status": "in_progress", "last_error": null})
}

fn list(items: &[Value]) -> Value {
    json!({"object": "list", "data": items, "has_more": false})
}

fn file(id: &str, chunking_strategy: Option<ChunkingStrategy>) -> AttachFile {
    AttachFile {
        file_id: id.to_owned(),
        chunking_strategy,
        ..AttachFile::default()
    }
}

fn already() -> Value {
    json!({"code": 3, "message": "Files with ids [fvtfile1] have already been created", "details": []})
}

const STATIC: ChunkingStrategy = ChunkingStrategy::fixed(800, 400);

#[tokio::test]
async fn a_key_goes_out_under_its_own_scheme_with_the_folder() {
    let server = Server::start([json(&list(&[])), json(&list(&[]))]).await;
    let mut config = server.config("yandex");
    config.credentials = config.credentials.map(|own| own.with("folder_id", "b1gfolder"));
    Registry::builtin()
        .open(config.clone())
        .unwrap()
        .health()
        .await
        .unwrap();
    config.credentials = config
        .credentials
        .map(|own| own.with("folder_header", "x-folder-id"));
    Registry::builtin().open(config).unwrap().health().await.unwrap();
    let requests = server.requests();
    assert_eq!(
        requests[0].header("authorization"),
        Some(format!("Api-Key {KEY}").as_str())
    );
    assert_eq!(requests[0].header("openai-project"), Some("b1gfolder"));
    assert_eq!(requests[1].header("openai-project"), None);
    assert_eq!(requests[1].header("x-folder-id"), Some("b1gfolder"));
}

#[tokio::test]
async fn an_attach_whose_strategy_is_choked_on_is_repeated_without() {
    let server = Server::start([status(500, &json!({})), json(&store_file("fvtsf1", "fvtfile1"))]).await;
    let attached = server
        .provider("yandex")
        .attach_file("fvtstore", file("fvtfile1", Some(STATIC)))
        .await
        .unwrap();
    assert!(!attached.chunking_strategy_applied && !attached.already_attached);
    assert_eq!(
        attached.file.id, "fvtsf1",
        "the id of the attachment, not of the file"
    );
    let requests = server.requests();
    assert_eq!(requests[0].json()["chunking_strategy"], STATIC.to_value());
    assert_eq!(requests[1].json(), json!({"file_id": "fvtfile1"}));
}

#[tokio::test]
async fn a_500_without_a_strategy_is_a_500() {
    let server = Server::start([status(500, &json!({})), json(&store_file("fvtsf1", "fvtfile1"))]).await;
    let error = server
        .provider("yandex")
        .attach_file("fvtstore", file("fvtfile1", None))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::Unavailable, Effect::Unknown)
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_attach_that_took_effect_in_spite_of_its_500_is_found() {
    let mut with_strategy = store_file("fvtsf1", "fvtfile1");
    with_strategy["chunking_strategy"] = STATIC.to_value();
    let server = Server::start([
        status(500, &json!({})),
        status(400, &already()),
        status(404, &json!({"code": 5, "message": "not found"})),
        json(&list(&[store_file("fvtsf0", "fvtfile0"), with_strategy])),
    ])
    .await;
    let attached = server
        .provider("yandex")
        .attach_file("fvtstore", file("fvtfile1", Some(STATIC)))
        .await
        .unwrap();
    assert!(attached.already_attached && attached.chunking_strategy_applied);
    assert_eq!(attached.file.id, "fvtsf1");
}

#[tokio::test]
async fn attaching_again_is_success() {
    let server = Server::start([status(400, &already()), json(&store_file("fvtfile1", "fvtfile1"))]).await;
    let attached = server
        .provider("yandex")
        .attach_file("fvtstore", file("fvtfile1", None))
        .await
        .unwrap();
    assert!(attached.already_attached && attached.chunking_strategy_applied);
}

#[tokio::test]
async fn a_file_being_indexed_is_in_progress_and_not_absent() {
    let absent = status(404, &json!({"code": 5, "message": "not found"}));
    let server = Server::start([absent.clone(), absent]).await;
    let provider = server.provider("yandex");
    let young = chrono::Utc::now() - chrono::Duration::minutes(2);
    let seen = provider
        .get_store_file("fvtstore", "fvtsf1", Some(young))
        .await
        .unwrap();
    assert_eq!(seen.status, StoreFileStatus::InProgress);
    let old = chrono::Utc::now() - chrono::Duration::hours(1);
    let error = provider
        .get_store_file("fvtstore", "fvtsf1", Some(old))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_download_that_is_not_there_is_unavailable_and_the_file_is_not_gone() {
    let server = Server::start([
        text(404, ""),
        status(404, &json!({"code": 5, "message": "no such file"})),
    ])
    .await;
    let provider = server.provider("yandex");
    assert_eq!(
        provider.file_content("fvtfile1").await.unwrap_err().kind,
        ErrorKind::ContentUnavailable
    );
    assert_eq!(
        provider.file_content("fvtfile1").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn batches_are_as_poor_as_documented() {
    let batch = json!({"id": "fvtbatch", "object": "vector_store.file_batch", "status": "in_progress",
        "vector_store_id": "fvtstore", "created_at": 1});
    let server = Server::start([status(500, &json!({})), json(&batch), status(400, &already())]).await;
    let provider = server.provider("yandex");

    let differing = vec![file("fvtfile1", Some(STATIC)), file("fvtfile2", None)];
    let error = provider
        .create_file_batch("fvtstore", differing)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    let error = provider
        .cancel_file_batch("fvtstore", "fvtbatch")
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(server.requests().len(), 0, "nothing was sent");

    let alike = vec![file("fvtfile1", Some(STATIC)), file("fvtfile2", Some(STATIC))];
    let created = provider.create_file_batch("fvtstore", alike).await.unwrap();
    assert!(!created.chunking_strategy_applied);
    assert_eq!(
        server.requests()[1].json(),
        json!({"file_ids": ["fvtfile1", "fvtfile2"]})
    );

    let error = provider
        .create_file_batch("fvtstore", vec![file("fvtfile1", None)])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_deref()),
        (ErrorKind::InvalidRequest, Some(ALREADY_ATTACHED))
    );
    assert_eq!(error.effect, Effect::None);
}

#[tokio::test]
async fn a_grpc_error_is_read_and_its_trace_kept() {
    let refusal = json!({"code": 16, "message": "Unknown api key 'AQVNc4n4ry1234567'", "details": []});
    let server = Server::start([status(401, &refusal).header("x-server-trace-id", "trace-1")]).await;
    let error = server
        .provider("yandex")
        .list_vector_stores(PageRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_deref()),
        (ErrorKind::Unauthorized, Some("UNAUTHENTICATED"))
    );
    let text = error.to_string();
    assert!(
        text.contains("trace trace-1") && !text.contains("c4n4ry"),
        "{text}"
    );
}
