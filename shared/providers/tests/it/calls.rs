//! What is sent, and what recorded answers are read as, call by call.

use rag_providers::{
    AttachFile, Attributes, ChunkingStrategy, Cursor, ErrorKind, ExpiresAfter, FileBatchStatus, FileUpdate,
    NewVectorStore, Order, PageRequest, Patch, ProviderExt, Registry, ReportedStrategy, SearchRequest,
    StoreFileStatus, VectorStoreStatus, VectorStoreUpdate,
};
use serde_json::{Value, json};

use crate::server::{KEY, Server, json, status, text};

fn store(id: &str) -> Value {
    json!({
        "id": id, "object": "vector_store", "created_at": 1_699_061_776, "name": "Support FAQ", "description": null,
        "usage_bytes": 139_920, "bytes": 139_920,
        "file_counts": {"in_progress": 1, "completed": 2, "failed": 3, "cancelled": 4, "total": 10},
        "status": "in_progress", "expires_after": null, "expires_at": null, "last_active_at": 1_699_061_800,
        "metadata": {"tag": "x"},
    })
}

fn store_file(id: &str) -> Value {
    json!({
        "id": id, "object": "vector_store.file", "usage_bytes": 1234, "created_at": 1_699_061_776,
        "vector_store_id": "vs_1", "status": "failed",
        "last_error": {"code": "unsupported_file", "message": "no"},
        "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}},
        "attributes": {"lang": "en", "page": 3},
    })
}

fn batch(id: &str) -> Value {
    json!({
        "id": id, "object": "vector_store.files_batch", "created_at": 1_699_061_776, "vector_store_id": "vs_1",
        "status": "in_progress", "file_counts": {"in_progress": 2, "completed": 0, "failed": 0, "cancelled": 0, "total": 2},
    })
}

fn list(items: &[Value], has_more: bool) -> Value {
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    json!({"object": "list", "data": items, "first_id": id(items.first()), "last_id": id(items.last()), "has_more": has_more})
}

#[tokio::test]
async fn stores_are_created_changed_and_deleted() {
    let server = Server::start([
        json(&store("vs_1")),
        json(&store("vs_1")),
        json(&store("vs_1")),
        json(&json!({"id": "vs_1", "object": "vector_store.deleted", "deleted": true})),
    ])
    .await;
    let provider = server.provider("openai");
    let created = provider
        .create_vector_store(NewVectorStore {
            name: Some("Support FAQ".to_owned()),
            metadata: [("tag".to_owned(), "x".to_owned())].into(),
            ..NewVectorStore::default()
        })
        .await
        .unwrap();
    assert_eq!(created.status, VectorStoreStatus::InProgress);
    assert_eq!((created.file_counts.failed, created.file_counts.total), (3, 10));
    assert_eq!(created.created_at.unwrap().timestamp(), 1_699_061_776);
    assert_eq!((created.description.as_deref(), created.expires_at), (None, None));
    assert_eq!(created.metadata["tag"], json!("x"));
    assert_eq!(
        created.raw["bytes"],
        json!(139_920),
        "fields nobody asked for are kept"
    );

    assert_eq!(provider.get_vector_store("vs_1").await.unwrap().id, "vs_1");
    let update = VectorStoreUpdate {
        expires_after: Patch::Set(ExpiresAfter::days_after_last_use(7)),
        ..VectorStoreUpdate::default()
    };
    provider.update_vector_store("vs_1", update).await.unwrap();
    assert!(provider.delete_vector_store("vs_1").await.unwrap().existed);

    assert_eq!(
        server.lines(),
        [
            "POST /vector_stores",
            "GET /vector_stores/vs_1",
            "POST /vector_stores/vs_1",
            "DELETE /vector_stores/vs_1"
        ]
    );
    let requests = server.requests();
    assert_eq!(
        requests[0].json(),
        json!({"name": "Support FAQ", "metadata": {"tag": "x"}})
    );
    assert_eq!(
        requests[2].json(),
        json!({"expires_after": {"anchor": "last_active_at", "days": 7}})
    );
}

#[tokio::test]
async fn headers_are_sent_where_they_belong() {
    let server = Server::start([
        json(&list(&[], false)),
        json(&list(&[], false)),
        json(&json!({"object": "list", "data": []})),
    ])
    .await;
    let mut config = server.config("sentralix");
    config.credentials = config
        .credentials
        .map(|own| own.with("organization", "org-1").with("project", "proj-1"));
    let provider = Registry::builtin().open(config).unwrap();
    provider.list_vector_stores(PageRequest::default()).await.unwrap();
    provider.list_files(PageRequest::default()).await.unwrap();
    provider.health().await.unwrap();

    let requests = server.requests();
    let beta: Vec<_> = requests
        .iter()
        .map(|request| request.header("openai-beta"))
        .collect();
    assert_eq!(beta, [Some("assistants=v2"), None, None]);
    let mut ids = Vec::new();
    for request in &requests {
        assert_eq!(
            request.header("authorization"),
            Some(format!("Bearer {KEY}").as_str())
        );
        assert_eq!(request.header("openai-organization"), Some("org-1"));
        assert_eq!(request.header("openai-project"), Some("proj-1"));
        ids.push(request.header("x-client-request-id").unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "every request has its own id");
    assert_eq!(
        server.lines(),
        [
            "GET /vector_stores",
            "GET /files?purpose=assistants",
            "GET /models"
        ]
    );
}

#[tokio::test]
async fn listings_are_walked_to_their_end() {
    let server = Server::start([
        json(&list(&[store_file("a"), store_file("b")], true)),
        json(&list(&[store_file("c")], false)),
    ])
    .await;
    let provider = server.provider("openai");
    let files = provider
        .all_store_files("vs_1", Some(StoreFileStatus::Failed))
        .await
        .unwrap();
    let ids: Vec<_> = files.iter().map(|file| file.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(
        server.lines(),
        [
            "GET /vector_stores/vs_1/files?filter=failed&limit=100&order=asc",
            "GET /vector_stores/vs_1/files?filter=failed&limit=100&order=asc&after=b"
        ]
    );
}

#[tokio::test]
async fn a_page_can_be_asked_for() {
    let server = Server::start([json(&list(&[store("vs_1")], true))]).await;
    let provider = server.provider("openai");
    let request = PageRequest {
        limit: Some(1000),
        after: Some(Cursor("vs_0".to_owned())),
        order: Some(Order::Descending),
    };
    let page = provider.list_vector_stores(request).await.unwrap();
    assert_eq!(page.next, Some(Cursor("vs_1".to_owned())));
    assert_eq!(
        server.lines(),
        ["GET /vector_stores?limit=100&order=desc&after=vs_0"]
    );
}

#[tokio::test]
async fn files_of_a_store_are_attached_read_changed_and_detached() {
    let server = Server::start([
        json(&store_file("file-1")).header("openai-poll-after-ms", "1500"),
        json(&store_file("file-1")),
        json(&store_file("file-1")),
        json(
            &json!({"object": "vector_store.file_content.page", "has_more": false, "next_page": null,
            "data": [{"type": "text", "text": "hello"}]}),
        ),
        json(&json!({"id": "file-1", "object": "vector_store.file.deleted", "deleted": true})),
    ])
    .await;
    let provider = server.provider("openai");
    let strategy = ChunkingStrategy::fixed(800, 400);
    let attributes: Attributes = serde_json::from_value(json!({"lang": "en"})).unwrap();
    let attached = provider
        .attach_file(
            "vs_1",
            AttachFile {
                file_id: "file-1".to_owned(),
                attributes: attributes.clone(),
                chunking_strategy: Some(strategy),
                time: None,
            },
        )
        .await
        .unwrap();
    assert!(attached.chunking_strategy_applied && !attached.already_attached);
    assert_eq!(
        attached.file.poll_after,
        Some(std::time::Duration::from_millis(1500))
    );
    let file = provider.get_store_file("vs_1", "file-1", None).await.unwrap();
    assert_eq!(file.status, StoreFileStatus::Failed);
    assert_eq!(file.last_error.unwrap().code, "unsupported_file");
    assert_eq!(file.chunking_strategy, Some(ReportedStrategy::Known(strategy)));
    provider
        .update_store_file_attributes("vs_1", "file-1", attributes)
        .await
        .unwrap();
    let content = provider.store_file_content("vs_1", "file-1").await.unwrap();
    assert_eq!(content.parts[0].text, "hello");
    assert!(provider.detach_file("vs_1", "file-1").await.unwrap().existed);

    let requests = server.requests();
    assert_eq!(
        requests[0].json(),
        json!({"file_id": "file-1", "attributes": {"lang": "en"}, "chunking_strategy":
            {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}})
    );
    assert_eq!(requests[2].json(), json!({"attributes": {"lang": "en"}}));
    assert_eq!(
        server.lines(),
        [
            "POST /vector_stores/vs_1/files",
            "GET /vector_stores/vs_1/files/file-1",
            "POST /vector_stores/vs_1/files/file-1",
            "GET /vector_stores/vs_1/files/file-1/content",
            "DELETE /vector_stores/vs_1/files/file-1",
        ]
    );
}

#[tokio::test]
async fn batches_are_created_polled_cancelled_and_listed() {
    let server = Server::start([
        json(&batch("vsfb_1")),
        json(&batch("vsfb_1")),
        json(&batch("vsfb_1")),
        json(&list(&[store_file("a")], false)),
    ])
    .await;
    let provider = server.provider("openai");
    let files = ["a", "b"].map(|id| AttachFile {
        file_id: id.to_owned(),
        chunking_strategy: (id == "a").then_some(ChunkingStrategy::AUTO),
        ..AttachFile::default()
    });
    let created = provider.create_file_batch("vs_1", files.to_vec()).await.unwrap();
    assert_eq!(created.status, FileBatchStatus::InProgress);
    assert!(created.chunking_strategy_applied);
    assert_eq!(
        provider
            .get_file_batch("vs_1", "vsfb_1")
            .await
            .unwrap()
            .file_counts
            .in_progress,
        2
    );
    provider.cancel_file_batch("vs_1", "vsfb_1").await.unwrap();
    assert_eq!(
        provider
            .all_file_batch_files("vs_1", "vsfb_1", None)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        server.requests()[0].json(),
        json!({"files": [{"file_id": "a", "chunking_strategy": {"type": "auto"}}, {"file_id": "b"}]})
    );
    assert_eq!(
        server.lines(),
        [
            "POST /vector_stores/vs_1/file_batches",
            "GET /vector_stores/vs_1/file_batches/vsfb_1",
            "POST /vector_stores/vs_1/file_batches/vsfb_1/cancel",
            "GET /vector_stores/vs_1/file_batches/vsfb_1/files?limit=100&order=asc",
        ]
    );
}

#[tokio::test]
async fn a_batch_that_answers_as_a_store_is_refused() {
    let server = Server::start([json(&store("vs_1"))]).await;
    let error = server
        .provider("openai")
        .get_file_batch("vs_1", "vsfb_1")
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Protocol);
}

#[tokio::test]
async fn a_search_is_read() {
    let page = json!({
        "object": "vector_store.search_results.page", "search_query": ["return policy"], "has_more": false,
        "next_page": null,
        "data": [{"file_id": "file-1", "filename": "a.pdf", "score": 0.95, "attributes": null,
            "content": [{"type": "text", "text": "within 30 days"}]}],
    });
    let server = Server::start([json(&page)]).await;
    let provider = server.provider("openai");
    let search = SearchRequest {
        queries: vec!["return policy".to_owned()],
        max_num_results: Some(5),
        filters: Some(json!({"type": "eq", "key": "lang", "value": "en"})),
        ..SearchRequest::default()
    };
    let found = provider.search_vector_store("vs_1", search).await.unwrap();
    assert_eq!(found.search_query, ["return policy"]);
    assert_eq!(found.hits[0].content[0].text, "within 30 days");
    assert!((found.hits[0].score - 0.95).abs() < 1e-9);
    assert_eq!(server.lines(), ["POST /vector_stores/vs_1/search"]);
    let none = provider
        .search_vector_store("vs_1", SearchRequest::default())
        .await
        .unwrap_err();
    assert_eq!(none.kind, ErrorKind::InvalidRequest);
    assert_eq!(server.requests().len(), 1, "nothing was sent");
}

#[tokio::test]
async fn files_are_read_and_deleted_and_never_changed() {
    let file = json!({"id": "file-1", "object": "file", "bytes": 175, "created_at": 1_613_677_385,
        "expires_at": 1_677_614_202, "filename": "a.pdf", "purpose": "assistants", "status": "processed"});
    let server = Server::start([
        json(&file.clone()),
        json(&json!({"id": "file-1", "object": "file", "deleted": true})),
        status(
            404,
            &json!({"error": {"message": "No such File object: file-1", "code": null}}),
        ),
    ])
    .await;
    let provider = server.provider("openai");
    let read = provider.get_file("file-1").await.unwrap();
    assert_eq!((read.file_name.as_str(), read.size_bytes), ("a.pdf", 175));
    assert_eq!(read.expires_at.unwrap().timestamp(), 1_677_614_202);
    assert_eq!(read.raw, file);
    assert!(provider.delete_file("file-1").await.unwrap().existed);
    assert!(!provider.delete_file("file-1").await.unwrap().existed);
    let error = provider
        .update_file("file-1", FileUpdate::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(!provider.capabilities().update_file);
}

#[tokio::test]
async fn health_needs_a_real_answer() {
    let server = Server::start([json(&list(&[], false)), text(200, "{}")]).await;
    let provider = server.provider("openai");
    provider.health().await.unwrap();
    assert_eq!(provider.health().await.unwrap_err().kind, ErrorKind::Protocol);
    assert_eq!(server.lines()[0], "GET /vector_stores?limit=1");
}
