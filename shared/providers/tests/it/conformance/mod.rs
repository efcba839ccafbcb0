//! One set of tests that every adapter passes, against the emulator in the provider's profile. What an adapter can't do shows in
//! its capabilities, and the tests ask them as the pipeline does.

mod faults;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use rag_emulator::{Action, Emulator, Profile, Rule, When};
use rag_providers::{
    AttachFile, BytesSource, ChunkingStrategy, ConnectionConfig, Credentials, Disposition, ErrorKind,
    FileBatchStatus, FileUpload, NewVectorStore, Order, PageRequest, Provider, ProviderExt, Registry,
    ReportedStrategy, SearchRequest, StoreFileStatus, VectorStoreUpdate,
};

use self::faults::{
    a_lost_answer_is_an_unknown_effect, a_wrong_key_is_for_the_operator,
    faults_of_a_listing_never_shorten_it, passing_faults_of_safe_calls_pass_unnoticed,
};

const KEY: &str = "sk-c4n4ry-emulator-0123456789";

struct Fixture {
    emulator: Emulator,
    provider: Arc<dyn Provider>,
}

impl Fixture {
    async fn start(profile: Profile) -> Self {
        let emulator = Emulator::builder()
            .profile(profile)
            .api_key(KEY)
            .indexing(20, 0.0)
            .start()
            .await
            .unwrap();
        let provider = connect(&emulator, profile, KEY);
        Self { emulator, provider }
    }

    fn fault(&self, operation: &str, then: Action) {
        let when = When {
            operation: Some(operation.to_owned()),
            ..When::default()
        };
        self.emulator.control().add_fault(Rule { when, then }).unwrap();
    }

    async fn store(&self) -> String {
        let store = NewVectorStore {
            name: Some("conformance".to_owned()),
            ..NewVectorStore::default()
        };
        self.provider.create_vector_store(store).await.unwrap().id
    }

    async fn upload(&self, name: &str, text: &str) -> String {
        self.provider.upload_file(upload(name, text)).await.unwrap().id
    }

    /// Polls as the pipeline does: by the list, which shows files while they are indexed everywhere.
    async fn indexed(&self, store_id: &str, count: usize) {
        for _ in 0..200 {
            let completed = Some(StoreFileStatus::Completed);
            if self
                .provider
                .all_store_files(store_id, completed)
                .await
                .unwrap()
                .len()
                == count
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the files were never indexed");
    }
}

fn connect(emulator: &Emulator, profile: Profile, key: &str) -> Arc<dyn Provider> {
    rag_canary::watch_logs();
    let provider_type = match profile {
        Profile::Openai => "openai",
        Profile::Sentralix | Profile::Ogx | Profile::Litellm => "sentralix",
        Profile::Yandex => "yandex",
    };
    let mut config = ConnectionConfig::new(provider_type, "api_key");
    config.base_url = Some(emulator.url());
    config.credentials = Some(Credentials::api_key(key));
    config.network.allow_http_loopback = true;
    config.timeouts.per_try = Duration::from_secs(1);
    Registry::builtin().open(config).unwrap()
}

fn upload(name: &str, text: &str) -> FileUpload {
    FileUpload {
        file_name: name.to_owned(),
        content_type: None,
        size_bytes: text.len() as u64,
        sha256: None,
        body: Arc::new(BytesSource(Bytes::copy_from_slice(text.as_bytes()))),
    }
}

fn attach(file_id: &str, chunking_strategy: Option<ChunkingStrategy>) -> AttachFile {
    AttachFile {
        file_id: file_id.to_owned(),
        chunking_strategy,
        ..AttachFile::default()
    }
}

/// Attaches in one batch if the files may differ or do not, else one by one.
async fn attach_all(provider: &dyn Provider, store_id: &str, files: Vec<AttachFile>) {
    let alike = files
        .iter()
        .all(|file| file.chunking_strategy == files[0].chunking_strategy);
    if alike || provider.capabilities().batch_per_file_strategy {
        let batch = provider.create_file_batch(store_id, files).await.unwrap();
        for _ in 0..200 {
            let polled = provider.get_file_batch(store_id, &batch.id).await.unwrap();
            if polled.status.is_terminal() {
                assert_eq!(polled.status, FileBatchStatus::Completed);
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the batch never ended");
    }
    for file in files {
        let attached = provider.attach_file(store_id, file).await.unwrap();
        let id = attached.file.id;
        provider
            .get_store_file(store_id, &id, Some(chrono::Utc::now()))
            .await
            .unwrap();
    }
}

async fn stores_live_and_die(profile: Profile) {
    let f = Fixture::start(profile).await;
    let tag = [("rag_index_id".to_owned(), "index-1".to_owned())];
    let created = NewVectorStore {
        name: Some("first".to_owned()),
        metadata: tag.into(),
        ..Default::default()
    };
    let store = f.provider.create_vector_store(created).await.unwrap();
    assert_eq!(store.metadata["rag_index_id"], "index-1");
    let update = VectorStoreUpdate {
        name: Some("second".to_owned()),
        ..VectorStoreUpdate::default()
    };
    assert_eq!(
        f.provider
            .update_vector_store(&store.id, update)
            .await
            .unwrap()
            .name,
        "second"
    );
    assert_eq!(
        f.provider.get_vector_store(&store.id).await.unwrap().name,
        "second"
    );
    assert_eq!(f.provider.all_vector_stores().await.unwrap().len(), 1);
    assert!(f.provider.delete_vector_store(&store.id).await.unwrap().existed);
    assert!(!f.provider.delete_vector_store(&store.id).await.unwrap().existed);
    let error = f.provider.get_vector_store(&store.id).await.unwrap_err();
    assert_eq!(
        (error.kind, error.disposition()),
        (ErrorKind::NotFound, Disposition::Fail),
        "{error}"
    );
}

async fn files_with_mixed_strategies_are_indexed_and_found(profile: Profile) {
    let f = Fixture::start(profile).await;
    let store_id = f.store().await;
    let narrow = ChunkingStrategy::fixed(100, 20);
    let mut files = Vec::new();
    for (number, strategy) in [None, Some(narrow), Some(ChunkingStrategy::AUTO)]
        .into_iter()
        .enumerate()
    {
        let text = format!("The lighthouse number {number} stands on a rock.");
        files.push(attach(&f.upload(&format!("{number}.txt"), &text).await, strategy));
    }
    attach_all(&*f.provider, &store_id, files.clone()).await;
    f.indexed(&store_id, 3).await;

    let listed = f.provider.all_store_files(&store_id, None).await.unwrap();
    if f.provider.capabilities().batch_per_file_strategy {
        let own = listed.iter().find(|file| file.id == files[1].file_id).unwrap();
        assert_eq!(own.chunking_strategy, Some(ReportedStrategy::Known(narrow)));
    }
    let file = f
        .provider
        .get_store_file(&store_id, &listed[0].id, None)
        .await
        .unwrap();
    assert_eq!(file.status, StoreFileStatus::Completed);
    let search = SearchRequest {
        queries: vec!["lighthouse rock".to_owned()],
        ..SearchRequest::default()
    };
    let found = f.provider.search_vector_store(&store_id, search).await.unwrap();
    assert!(
        found
            .hits
            .iter()
            .any(|hit| hit.content.iter().any(|part| part.text.contains("lighthouse")))
    );
    let parsed = f
        .provider
        .store_file_content(&store_id, &listed[0].id)
        .await
        .unwrap();
    assert!(parsed.parts.iter().any(|part| part.text.contains("lighthouse")));

    let attributes = serde_json::from_str(r#"{"lang":"en","page":2}"#).unwrap();
    let updated = f
        .provider
        .update_store_file_attributes(&store_id, &listed[0].id, attributes)
        .await
        .unwrap();
    assert_eq!(updated.attributes["lang"], "en");
    assert_eq!(
        f.provider
            .get_vector_store(&store_id)
            .await
            .unwrap()
            .file_counts
            .completed,
        3
    );

    assert!(
        f.provider
            .detach_file(&store_id, &listed[0].id)
            .await
            .unwrap()
            .existed
    );
    assert!(
        !f.provider
            .detach_file(&store_id, &listed[0].id)
            .await
            .unwrap()
            .existed
    );
    f.provider.get_file(&files[0].file_id).await.unwrap();
    assert!(f.provider.delete_file(&files[0].file_id).await.unwrap().existed);
    assert!(!f.provider.delete_file(&files[0].file_id).await.unwrap().existed);
    assert_eq!(
        f.provider.get_file(&files[0].file_id).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}

async fn a_file_keeps_its_name(profile: Profile) {
    let f = Fixture::start(profile).await;
    for name in [
        "отчёт за 2026.txt",
        "a \"quoted\" name.md",
        "données + 100% #1.csv",
    ] {
        let file_id = f.upload(name, "text").await;
        let file = f.provider.get_file(&file_id).await.unwrap();
        assert_eq!((file.file_name.as_str(), file.size_bytes), (name, 4));
    }
}

async fn attaching_twice_is_attaching_once(profile: Profile) {
    let f = Fixture::start(profile).await;
    let store_id = f.store().await;
    let file_id = f.upload("a.md", "# Title").await;
    let first = f
        .provider
        .attach_file(&store_id, attach(&file_id, None))
        .await
        .unwrap();
    let second = f
        .provider
        .attach_file(&store_id, attach(&file_id, None))
        .await
        .unwrap();
    assert_eq!(first.file.id, second.file.id);
    f.indexed(&store_id, 1).await;
    assert_eq!(f.emulator.control().state().stores[0].files.len(), 1);
}

async fn every_page_is_walked(profile: Profile) {
    let f = Fixture::start(profile).await;
    let store_id = f.store().await;
    let limit = f.provider.capabilities().max_batch_files;
    let mut uploaded = Vec::new();
    for number in 0..130 {
        uploaded.push(
            f.upload(&format!("{number}.txt"), &format!("text {number}"))
                .await,
        );
    }
    for batch in uploaded.chunks(limit) {
        attach_all(
            &*f.provider,
            &store_id,
            batch.iter().map(|id| attach(id, None)).collect(),
        )
        .await;
    }
    let listed = f.provider.all_store_files(&store_id, None).await.unwrap();
    let ids: BTreeSet<_> = listed.iter().map(|file| file.id.as_str()).collect();
    assert_eq!((listed.len(), ids.len()), (130, 130));
    assert_eq!(f.provider.all_files().await.unwrap().len(), 130);
    let page = PageRequest {
        limit: Some(7),
        order: Some(Order::Descending),
        ..PageRequest::default()
    };
    let page = f.provider.list_store_files(&store_id, page, None).await.unwrap();
    assert!(page.items.len() == 7 && page.next.is_some());
}

async fn content_is_handed_out_or_typed_as_unavailable(profile: Profile) {
    let f = Fixture::start(profile).await;
    let file_id = f.upload("a.txt", "the bytes").await;
    let error = f.provider.file_content(&file_id).await.unwrap_err();
    assert_eq!(
        (error.kind, error.disposition()),
        (ErrorKind::ContentUnavailable, Disposition::Fail),
        "{error}"
    );

    if profile == Profile::Yandex {
        return;
    }
    let emulator = Emulator::builder()
        .profile(profile)
        .api_key(KEY)
        .allow_content()
        .start()
        .await
        .unwrap();
    let provider = connect(&emulator, profile, KEY);
    let file = provider.upload_file(upload("a.txt", "the bytes")).await.unwrap();
    let content = provider.file_content(&file.id).await.unwrap();
    let pieces: Vec<Bytes> = content.stream.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"the bytes");
}

async fn a_batch_is_cancelled_where_that_can_be(profile: Profile) {
    let f = Fixture::start(profile).await;
    let store_id = f.store().await;
    f.fault("indexing", Action::Stuck);
    let file_id = f.upload("a.txt", "text").await;
    let batch = f
        .provider
        .create_file_batch(&store_id, vec![attach(&file_id, None)])
        .await
        .unwrap();
    let result = f.provider.cancel_file_batch(&store_id, &batch.id).await;
    if f.provider.capabilities().cancel_batch {
        assert_ne!(result.unwrap().status, FileBatchStatus::Completed);
        let files = f
            .provider
            .all_file_batch_files(&store_id, &batch.id, None)
            .await
            .unwrap();
        assert_eq!(files[0].status, StoreFileStatus::Cancelled);
    } else {
        assert_eq!(result.unwrap_err().kind, ErrorKind::Unsupported);
    }
}

macro_rules! for_every_profile {
    ($($test:ident)+) => {
        mod openai { $(#[tokio::test] async fn $test() { super::$test(rag_emulator::Profile::Openai).await; })+ }
        mod sentralix { $(#[tokio::test] async fn $test() { super::$test(rag_emulator::Profile::Sentralix).await; })+ }
        mod yandex { $(#[tokio::test] async fn $test() { super::$test(rag_emulator::Profile::Yandex).await; })+ }
    };
}

for_every_profile! {
    stores_live_and_die
    files_with_mixed_strategies_are_indexed_and_found
    a_file_keeps_its_name
    attaching_twice_is_attaching_once
    every_page_is_walked
    a_lost_answer_is_an_unknown_effect
    faults_of_a_listing_never_shorten_it
    passing_faults_of_safe_calls_pass_unnoticed
    content_is_handed_out_or_typed_as_unavailable
    a_wrong_key_is_for_the_operator
    a_batch_is_cancelled_where_that_can_be
}
