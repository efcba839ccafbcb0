//! Every call of the contract against a server that is already there: a real account, or an emulator behind a proxy that
//! holds each request and answer against OpenAI's API document.
//!
//! `RAG_LIVE_BASE_URL=… RAG_LIVE_API_KEY=… cargo test -p rag-providers live -- --ignored`; `RAG_LIVE_PROVIDER` chooses the
//! adapter (`openai` if unset). Uploads in parts have a test of their own, beside their code.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rag_providers::{
    AttachFile, Attributes, BudgetRefused, BytesSource, ChunkingStrategy, ConnectionConfig, Credentials,
    Effect, ErrorKind, ExpiresAfter, FileBatchStatus, FileUpdate, FileUpload, NewVectorStore, Operation,
    Order, Page, PageRequest, Patch, Permit, Provider, ProviderError, ProviderExt, ProviderFile, Registry,
    ReportedStrategy, RequestBudget, SearchRequest, StoreFileStatus, VectorStore, VectorStoreFile,
    VectorStoreUpdate,
};
use serde_json::json;

/// Sends nothing itself: what it does is on behalf of other calls, or before them.
const NOT_CALLS: [Operation; 2] = [Operation::Authenticate, Operation::Connect];

/// Remembers which calls went out.
#[derive(Debug, Default)]
struct Sent(Mutex<BTreeSet<Operation>>);

#[async_trait]
impl RequestBudget for Sent {
    async fn acquire(&self, operation: Operation) -> Result<Permit, BudgetRefused> {
        self.0.lock().unwrap().insert(operation);
        Ok(Permit::free())
    }

    async fn rate_limited(&self, _: Operation, hint: Option<Duration>) -> Option<Duration> {
        hint
    }

    async fn refused(&self, _: &ProviderError) {}

    async fn accepted(&self, _: Operation) {}
}

struct Live {
    provider: Arc<dyn Provider>,
    sent: Arc<Sent>,
}

impl Live {
    fn connect() -> Self {
        let setting = |name: &str| std::env::var(name).ok();
        let provider_type = setting("RAG_LIVE_PROVIDER").unwrap_or_else(|| "openai".to_owned());
        let mut config = ConnectionConfig::new(provider_type, "api_key");
        config.base_url = Some(setting("RAG_LIVE_BASE_URL").unwrap());
        config.credentials = Some(Credentials::api_key(&setting("RAG_LIVE_API_KEY").unwrap()));
        config.network.allow_http_loopback = true;
        let sent = Arc::new(Sent::default());
        config.budget = Some(Arc::clone(&sent) as Arc<dyn RequestBudget>);
        let provider = Registry::builtin().open(config).unwrap();
        Self { provider, sent }
    }

    async fn upload(&self, name: &str) -> String {
        let text = Bytes::from(format!("{name}: a lighthouse stands on a rock."));
        let upload = FileUpload {
            file_name: name.to_owned(),
            content_type: None,
            size_bytes: text.len() as u64,
            sha256: None,
            body: Arc::new(BytesSource(text)),
        };
        self.provider.upload_file(upload).await.unwrap().id
    }

    async fn indexed(&self, store_id: &str, count: usize) {
        for _ in 0..240 {
            let completed = Some(StoreFileStatus::Completed);
            let completed = self.provider.all_store_files(store_id, completed).await.unwrap();
            if completed.len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("the files were never indexed");
    }
}

/// Walks a listing in pages of one, and back.
async fn walk<T, F>(ids: &[String], id: impl Fn(&T) -> String, mut page: impl FnMut(PageRequest) -> F)
where
    F: Future<Output = Result<Page<T>, ProviderError>>,
{
    for order in [Order::Ascending, Order::Descending] {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let request = PageRequest {
                limit: Some(1),
                after,
                order: Some(order),
            };
            let got = page(request).await.unwrap();
            found.extend(got.items.iter().map(&id));
            after = got.next;
            if after.is_none() {
                break;
            }
        }
        let mut wanted = ids.to_vec();
        if order == Order::Descending {
            wanted.reverse();
        }
        // An account may hold more than what is ours.
        found.retain(|id| wanted.contains(id));
        assert_eq!(found, wanted, "{order:?}");
    }
}

fn narrow() -> ChunkingStrategy {
    ChunkingStrategy::fixed(200, 50)
}

fn attributes() -> Attributes {
    let values = json!({"lang": "en", "page": 2, "final": true});
    values.as_object().unwrap().clone()
}

async fn stores(live: &Live) -> String {
    let provider = &live.provider;
    let mut ids = Vec::new();
    for number in 0..2 {
        let store = NewVectorStore {
            name: Some(format!("rag-providers live test {number}")),
            description: Some("made by a test".to_owned()),
            expires_after: Some(ExpiresAfter::days_after_last_use(1)),
            metadata: [("tag".to_owned(), "live".to_owned())].into(),
            ..NewVectorStore::default()
        };
        ids.push(provider.create_vector_store(store).await.unwrap().id);
    }
    walk(
        &ids,
        |store: &VectorStore| store.id.clone(),
        |page| provider.list_vector_stores(page),
    )
    .await;
    for (expires_after, days) in [
        (Patch::Set(ExpiresAfter::days_after_last_use(2)), Some(2)),
        (Patch::Keep, Some(2)),
        (Patch::Clear, None),
    ] {
        let update = VectorStoreUpdate {
            name: Some("rag-providers live test, renamed".to_owned()),
            expires_after,
            metadata: json!({"tag": "live, renamed"}).as_object().cloned(),
        };
        provider.update_vector_store(&ids[0], update).await.unwrap();
        let store = provider.get_vector_store(&ids[0]).await.unwrap();
        assert_eq!(store.name, "rag-providers live test, renamed");
        assert_eq!(store.expires_after.map(|expiry| expiry.days), days);
    }
    assert!(provider.delete_vector_store(&ids[1]).await.unwrap().existed);
    assert!(!provider.delete_vector_store(&ids[1]).await.unwrap().existed);
    ids.remove(0)
}

/// Three files, each with something else of its own.
async fn files(live: &Live) -> Vec<AttachFile> {
    let provider = &live.provider;
    let mut files = Vec::new();
    for (name, own, attributes) in [
        ("a.txt", Some(narrow()), Attributes::new()),
        ("b.md", Some(ChunkingStrategy::AUTO), Attributes::new()),
        ("c.json", None, attributes()),
    ] {
        files.push(AttachFile {
            file_id: live.upload(name).await,
            attributes,
            chunking_strategy: own,
            time: None,
        });
    }
    let ids: Vec<String> = files.iter().map(|file| file.file_id.clone()).collect();
    walk(
        &ids,
        |file: &ProviderFile| file.id.clone(),
        |page| provider.list_files(page),
    )
    .await;
    assert_eq!(provider.get_file(&ids[0]).await.unwrap().file_name, "a.txt");
    // OpenAI hands out nothing of this purpose; a server that does is in its right.
    if let Err(error) = provider.file_content(&ids[0]).await {
        assert_eq!(error.kind, ErrorKind::ContentUnavailable, "{error}");
    }
    let error = provider
        .update_file(&ids[0], FileUpdate::default())
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Unsupported, Effect::None));
    files
}

/// A batch of files that differ, one that is cancelled, and a single file.
async fn attached(live: &Live, store_id: &str, files: &[AttachFile]) {
    let provider = &live.provider;
    let one = provider.attach_file(store_id, files[0].clone()).await.unwrap();
    assert!(one.chunking_strategy_applied && !one.already_attached);
    let batch = provider
        .create_file_batch(store_id, files[1..].to_vec())
        .await
        .unwrap();
    live.indexed(store_id, 3).await;
    let batch = provider.get_file_batch(store_id, &batch.id).await.unwrap();
    assert_eq!(batch.status, FileBatchStatus::Completed);
    let ids: Vec<String> = files[1..].iter().map(|file| file.file_id.clone()).collect();
    let page = |page| provider.list_file_batch_files(store_id, &batch.id, page, None);
    walk(&ids, |file: &VectorStoreFile| file.id.clone(), page).await;
    let failed = Some(StoreFileStatus::Failed);
    let failed = provider.all_file_batch_files(store_id, &batch.id, failed).await;
    assert!(failed.unwrap().is_empty());

    let late = AttachFile {
        file_id: live.upload("late.txt").await,
        chunking_strategy: Some(narrow()),
        ..AttachFile::default()
    };
    let batch = provider
        .create_file_batch(store_id, vec![late.clone()])
        .await
        .unwrap();
    let cancelled = provider.cancel_file_batch(store_id, &batch.id).await.unwrap();
    assert!(
        !matches!(cancelled.status, FileBatchStatus::Other(_)),
        "{cancelled:?}"
    );
    assert!(
        provider
            .detach_file(store_id, &late.file_id)
            .await
            .unwrap()
            .existed
    );
    assert!(provider.delete_file(&late.file_id).await.unwrap().existed);
}

async fn looked_at(live: &Live, store_id: &str, files: &[AttachFile]) {
    let provider = &live.provider;
    let ids: Vec<String> = files.iter().map(|file| file.file_id.clone()).collect();
    let page = |page| provider.list_store_files(store_id, page, Some(StoreFileStatus::Completed));
    walk(&ids, |file: &VectorStoreFile| file.id.clone(), page).await;
    for (file, strategy) in files.iter().zip([Some(narrow()), None, None]) {
        let found = provider
            .get_store_file(store_id, &file.file_id, None)
            .await
            .unwrap();
        assert_eq!(found.status, StoreFileStatus::Completed);
        if strategy.is_some() {
            assert_eq!(
                found.chunking_strategy,
                strategy.map(ReportedStrategy::Known),
                "its own, also beside others"
            );
        }
    }
    let own = provider.get_store_file(store_id, &ids[2], None).await.unwrap();
    assert_eq!(own.attributes["lang"], "en");
    let changed = provider
        .update_store_file_attributes(store_id, &ids[0], attributes())
        .await
        .unwrap();
    assert_eq!(changed.attributes["final"], true);
    let parsed = provider.store_file_content(store_id, &ids[0]).await.unwrap();
    assert!(parsed.parts.iter().any(|part| part.text.contains("lighthouse")));
}

async fn searched(live: &Live, store_id: &str) {
    let english = json!({"type": "eq", "key": "lang", "value": "en"});
    let early = json!({"type": "lte", "key": "page", "value": 2});
    let plain = SearchRequest {
        queries: vec!["lighthouse".to_owned()],
        ..SearchRequest::default()
    };
    let filtered = SearchRequest {
        queries: vec!["lighthouse".to_owned(), "rock".to_owned()],
        max_num_results: Some(5),
        rewrite_query: Some(false),
        filters: Some(json!({"type": "and", "filters": [english, early]})),
        ranking_options: Some(json!({"ranker": "auto", "score_threshold": 0.0})),
    };
    for (search, hits) in [(plain, 3), (filtered, 2)] {
        let found = live.provider.search_vector_store(store_id, search).await.unwrap();
        assert_eq!(found.hits.len(), hits, "{found:?}");
    }
}

async fn removed(live: &Live, store_id: &str, files: &[AttachFile]) {
    let provider = &live.provider;
    for file in files {
        assert!(
            provider
                .detach_file(store_id, &file.file_id)
                .await
                .unwrap()
                .existed
        );
        assert!(
            !provider
                .detach_file(store_id, &file.file_id)
                .await
                .unwrap()
                .existed
        );
    }
    // A store may also begin with its files.
    let store = NewVectorStore {
        file_ids: files.iter().map(|file| file.file_id.clone()).collect(),
        chunking_strategy: Some(narrow()),
        ..NewVectorStore::default()
    };
    let whole = provider.create_vector_store(store).await.unwrap();
    assert_eq!(whole.file_counts.total, 3);
    live.indexed(&whole.id, 3).await;
    for id in [&whole.id, store_id] {
        assert!(provider.delete_vector_store(id).await.unwrap().existed);
    }
    for file in files {
        assert!(provider.delete_file(&file.file_id).await.unwrap().existed);
        assert!(!provider.delete_file(&file.file_id).await.unwrap().existed);
    }
    let error = provider.get_vector_store(store_id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

#[tokio::test]
#[ignore = "needs a server: RAG_LIVE_BASE_URL and RAG_LIVE_API_KEY"]
async fn every_call_is_understood() {
    let live = Live::connect();
    live.provider.health().await.unwrap();
    let store_id = stores(&live).await;
    let files = files(&live).await;
    attached(&live, &store_id, &files).await;
    looked_at(&live, &store_id, &files).await;
    searched(&live, &store_id).await;
    removed(&live, &store_id, &files).await;

    let sent = live.sent.0.lock().unwrap().clone();
    let capable = |operation: &Operation| {
        *operation != Operation::UpdateFile || live.provider.capabilities().update_file
    };
    let all = Operation::ALL.iter().copied();
    let expected: BTreeSet<_> = all
        .filter(|call| !NOT_CALLS.contains(call) && capable(call))
        .collect();
    assert_eq!(sent, expected, "every call of the contract went out");
}
