//! Every call once against a server that is already there: a real account, or an emulator behind a proxy that holds each
//! request and answer against OpenAI's API document.
//!
//! `RAG_LIVE_BASE_URL=… RAG_LIVE_API_KEY=… cargo test -p rag-providers --test it live -- --ignored`; `RAG_LIVE_PROVIDER`
//! chooses the adapter (`openai` if unset).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rag_providers::{
    AttachFile, Attributes, BytesSource, ChunkingStrategy, ConnectionConfig, Credentials, ExpiresAfter,
    FileUpload, NewVectorStore, PageRequest, Patch, Provider, ProviderExt, Registry, SearchRequest,
    StoreFileStatus, VectorStoreUpdate,
};

fn connect() -> Arc<dyn Provider> {
    let setting = |name: &str| std::env::var(name).ok();
    let provider_type = setting("RAG_LIVE_PROVIDER").unwrap_or_else(|| "openai".to_owned());
    let mut config = ConnectionConfig::new(provider_type, "api_key");
    config.base_url = Some(setting("RAG_LIVE_BASE_URL").unwrap());
    config.credentials = Some(Credentials::api_key(&setting("RAG_LIVE_API_KEY").unwrap()));
    config.network.allow_http_loopback = true;
    Registry::builtin().open(config).unwrap()
}

async fn upload(provider: &dyn Provider, name: &str) -> String {
    let text = Bytes::from(format!("{name}: a lighthouse stands on a rock."));
    let upload = FileUpload {
        file_name: name.to_owned(),
        content_type: None,
        size_bytes: text.len() as u64,
        body: Arc::new(BytesSource(text)),
    };
    provider.upload_file(upload).await.unwrap().id
}

async fn indexed(provider: &dyn Provider, store_id: &str, count: usize) {
    for _ in 0..120 {
        let completed = provider
            .all_store_files(store_id, Some(StoreFileStatus::Completed))
            .await
            .unwrap();
        if completed.len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the files were never indexed");
}

async fn store(provider: &dyn Provider) -> String {
    let store = NewVectorStore {
        name: Some("rag-providers live test".to_owned()),
        expires_after: Some(ExpiresAfter::days_after_last_use(1)),
        metadata: [("tag".to_owned(), "live".to_owned())].into(),
        ..NewVectorStore::default()
    };
    let store_id = provider.create_vector_store(store).await.unwrap().id;
    let update = VectorStoreUpdate {
        name: Some("rag-providers live test, renamed".to_owned()),
        expires_after: Patch::Set(ExpiresAfter::days_after_last_use(2)),
        ..VectorStoreUpdate::default()
    };
    provider.update_vector_store(&store_id, update).await.unwrap();
    provider.get_vector_store(&store_id).await.unwrap();
    provider
        .list_vector_stores(PageRequest {
            limit: Some(1),
            ..PageRequest::default()
        })
        .await
        .unwrap();
    store_id
}

#[tokio::test]
#[ignore = "needs a server: RAG_LIVE_BASE_URL and RAG_LIVE_API_KEY"]
async fn every_call_is_understood() {
    let provider = connect();
    provider.health().await.unwrap();
    let store_id = store(&*provider).await;
    let strategy = ChunkingStrategy::Static {
        max_chunk_size_tokens: 200,
        chunk_overlap_tokens: 50,
    };
    let attributes: Attributes = [("lang".to_owned(), "en".into()), ("page".to_owned(), 2.into())]
        .into_iter()
        .collect();
    let mut files = Vec::new();
    for (name, own) in [
        ("a.txt", Some(strategy)),
        ("b.txt", Some(ChunkingStrategy::Auto)),
        ("c.txt", None),
    ] {
        let file_id = upload(&*provider, name).await;
        let attributes = if own.is_none() {
            attributes.clone()
        } else {
            Attributes::new()
        };
        files.push(AttachFile {
            file_id,
            attributes,
            chunking_strategy: own,
        });
    }
    provider.get_file(&files[0].file_id).await.unwrap();
    provider
        .list_files(PageRequest {
            limit: Some(10),
            ..PageRequest::default()
        })
        .await
        .unwrap();
    provider.attach_file(&store_id, files[0].clone()).await.unwrap();
    if provider.capabilities().batch_per_file_strategy {
        let batch = provider
            .create_file_batch(&store_id, files[1..].to_vec())
            .await
            .unwrap();
        provider.get_file_batch(&store_id, &batch.id).await.unwrap();
        provider
            .all_file_batch_files(&store_id, &batch.id, None)
            .await
            .unwrap();
    } else {
        for file in &files[1..] {
            provider.attach_file(&store_id, file.clone()).await.unwrap();
        }
    }
    indexed(&*provider, &store_id, 3).await;

    let listed = provider.all_store_files(&store_id, None).await.unwrap();
    for file in &listed {
        provider.get_store_file(&store_id, &file.id, None).await.unwrap();
        provider
            .update_store_file_attributes(&store_id, &file.id, attributes.clone())
            .await
            .unwrap();
    }
    provider
        .store_file_content(&store_id, &listed[0].id)
        .await
        .unwrap();
    let search = SearchRequest {
        queries: vec!["lighthouse".to_owned()],
        max_num_results: Some(5),
        rewrite_query: Some(false),
        filters: Some(serde_json::json!({"type": "eq", "key": "lang", "value": "en"})),
        ..SearchRequest::default()
    };
    provider.search_vector_store(&store_id, search).await.unwrap();

    for file in &listed {
        assert!(provider.detach_file(&store_id, &file.id).await.unwrap().existed);
    }
    for file in &files {
        assert!(provider.delete_file(&file.file_id).await.unwrap().existed);
    }
    assert!(provider.delete_vector_store(&store_id).await.unwrap().existed);
    assert!(!provider.delete_vector_store(&store_id).await.unwrap().existed);
}
