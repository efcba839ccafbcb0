//! The contract, spoken over the dialect: one short method per call.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::decode::{self, Expected};
use super::profile::{HealthProbe, Profile};
use super::{batches, stores};
use crate::contract::Provider;
use crate::error::{ErrorKind, ProviderError};
use crate::http::{Answer, Call, Transport};
use crate::operation::Operation;
use crate::types::wire::WireObject;
use crate::types::{
    AttachFile, Attached, Attributes, Capabilities, Deleted, FileBatch, FileContent, FileUpdate, FileUpload,
    Health, NewVectorStore, Page, PageRequest, ParsedContent, ProviderFile, SearchPage, SearchRequest,
    StoreFileStatus, VectorStore, VectorStoreFile, VectorStoreUpdate,
};

/// Parsed text is held in memory; two million tokens, the most a file may have, are some 10 MB.
const MAX_PARSED_BYTES: usize = 64 * 1024 * 1024;

/// A provider that speaks the dialect as it is written.
#[derive(Debug)]
pub(crate) struct OpenAiClient {
    pub(super) transport: Transport,
    pub(super) profile: Profile,
}

impl OpenAiClient {
    pub(crate) fn new(transport: Transport, profile: Profile) -> Self {
        Self { transport, profile }
    }

    /// Sends a call and reads the object it answers, with the provider's wish when to look again.
    async fn polled<T: WireObject>(
        &self,
        call: &Call,
        id: Option<&str>,
    ) -> Result<(T, Option<Duration>), ProviderError> {
        let Answer {
            value,
            poll_after,
            request_id,
        } = self.transport.json(call).await?;
        let object = decode::object(
            value,
            Expected {
                operation: call.operation,
                id,
            },
        )
        .map_err(|error| error.or_request_id(request_id))?;
        Ok((object, poll_after))
    }

    async fn object<T: WireObject>(&self, call: &Call, id: Option<&str>) -> Result<T, ProviderError> {
        Ok(self.polled(call, id).await?.0)
    }

    async fn store_file(&self, call: &Call, id: Option<&str>) -> Result<VectorStoreFile, ProviderError> {
        let (file, poll_after) = self.polled(call, id).await?;
        Ok(VectorStoreFile { poll_after, ..file })
    }

    async fn batch(&self, call: &Call, id: Option<&str>) -> Result<FileBatch, ProviderError> {
        let (batch, poll_after) = self.polled(call, id).await?;
        Ok(FileBatch { poll_after, ..batch })
    }

    async fn page<T: WireObject>(
        &self,
        call: Call,
        mut page: PageRequest,
        max_limit: u32,
        default_limit: u32,
    ) -> Result<Page<T>, ProviderError> {
        page.limit = page.limit.map(|limit| limit.clamp(1, max_limit));
        let call = call
            .query("limit", page.limit)
            .query("order", page.order.map(crate::types::Order::as_str))
            .query("after", page.after.as_ref().map(crate::types::Cursor::as_str));
        let answer = self.transport.json(&call).await?;
        let request_id = answer.request_id.clone();
        decode::list(answer, call.operation, &page, default_limit)
            .map_err(|error| error.or_request_id(request_id))
    }

    async fn store_page<T: WireObject>(
        &self,
        call: Call,
        page: PageRequest,
    ) -> Result<Page<T>, ProviderError> {
        self.page(call, page, self.profile.capabilities.max_page_items, 20)
            .await
    }

    async fn delete(&self, call: &Call, id: &str, words: &[&str]) -> Result<Deleted, ProviderError> {
        let result: Result<Answer, _> = self.transport.json(call).await;
        decode::deleted(result, words, Expected::id(call.operation, id))
    }

    /// The id an answer about a store file must carry, if it can be foretold from the Files API id.
    fn known_id<'a>(&self, file_id: &'a str) -> Option<&'a str> {
        (!self.profile.capabilities.external_file_id_is_store_file).then_some(file_id)
    }
}

/// Everything below `/vector_stores` is still marked as beta, and nothing else is.
fn store_call(operation: Operation, method: Method, segments: &[&str]) -> Result<Call, ProviderError> {
    let all: Vec<&str> = std::iter::once("vector_stores")
        .chain(segments.iter().copied())
        .collect();
    let call = Call::new(operation, method, &all)?;
    Ok(call.header(
        HeaderName::from_static("openai-beta"),
        HeaderValue::from_static("assistants=v2"),
    ))
}

#[async_trait]
impl Provider for OpenAiClient {
    fn provider_type(&self) -> &str {
        self.profile.provider_type
    }

    fn capabilities(&self) -> &Capabilities {
        &self.profile.capabilities
    }

    async fn create_vector_store(&self, store: NewVectorStore) -> Result<VectorStore, ProviderError> {
        let limit = self.profile.capabilities.max_create_file_ids;
        if store.file_ids.len() > limit {
            let message = format!("more than {limit} files; nothing was sent");
            return Err(ProviderError::new(
                ErrorKind::InvalidRequest,
                Operation::CreateVectorStore,
                message,
            ));
        }
        let call =
            store_call(Operation::CreateVectorStore, Method::POST, &[])?.json(stores::create_body(store));
        self.object(&call, None).await
    }

    async fn list_vector_stores(&self, page: PageRequest) -> Result<Page<VectorStore>, ProviderError> {
        self.store_page(store_call(Operation::ListVectorStores, Method::GET, &[])?, page)
            .await
    }

    async fn get_vector_store(&self, store_id: &str) -> Result<VectorStore, ProviderError> {
        let call = store_call(Operation::GetVectorStore, Method::GET, &[store_id])?;
        self.object(&call, Some(store_id)).await
    }

    async fn update_vector_store(
        &self,
        store_id: &str,
        update: VectorStoreUpdate,
    ) -> Result<VectorStore, ProviderError> {
        let call = store_call(Operation::UpdateVectorStore, Method::POST, &[store_id])?;
        self.object(
            &call.json(stores::update_body(update)).repeatable(),
            Some(store_id),
        )
        .await
    }

    async fn delete_vector_store(&self, store_id: &str) -> Result<Deleted, ProviderError> {
        let call = store_call(Operation::DeleteVectorStore, Method::DELETE, &[store_id])?;
        self.delete(&call, store_id, &["vector_store.deleted"]).await
    }

    async fn search_vector_store(
        &self,
        store_id: &str,
        search: SearchRequest,
    ) -> Result<SearchPage, ProviderError> {
        let operation = Operation::SearchVectorStore;
        if search.queries.is_empty() {
            let message = "a search needs a query; nothing was sent";
            return Err(ProviderError::new(ErrorKind::InvalidRequest, operation, message));
        }
        let call =
            store_call(operation, Method::POST, &[store_id, "search"])?.json(stores::search_body(search));
        stores::search_page(self.transport.json(&call).await?.value, Expected::new(operation))
    }

    async fn upload_file(&self, upload: FileUpload) -> Result<ProviderFile, ProviderError> {
        self.upload(upload).await
    }

    async fn list_files(&self, page: PageRequest) -> Result<Page<ProviderFile>, ProviderError> {
        let call = Call::get(Operation::ListFiles, &["files"])?.query("purpose", Some(self.profile.purpose));
        self.page(call, page, self.profile.capabilities.max_file_page_items, 10_000)
            .await
    }

    async fn get_file(&self, file_id: &str) -> Result<ProviderFile, ProviderError> {
        self.object(
            &Call::get(Operation::GetFile, &["files", file_id])?,
            Some(file_id),
        )
        .await
    }

    async fn file_content(&self, file_id: &str) -> Result<FileContent, ProviderError> {
        let call = Call::get(Operation::FileContent, &["files", file_id, "content"])?;
        self.transport
            .content(call.empty_404_means(self.profile.content_404_without_body))
            .await
    }

    async fn update_file(&self, _file_id: &str, _update: FileUpdate) -> Result<ProviderFile, ProviderError> {
        Err(ProviderError::unsupported(
            Operation::UpdateFile,
            "files can't be changed at this provider; upload a new one",
        ))
    }

    async fn delete_file(&self, file_id: &str) -> Result<Deleted, ProviderError> {
        let call = Call::delete(Operation::DeleteFile, &["files", file_id])?;
        self.delete(&call, file_id, &["file", "file.deleted"]).await
    }

    async fn attach_file(&self, store_id: &str, file: AttachFile) -> Result<Attached, ProviderError> {
        let call = store_call(Operation::AttachFile, Method::POST, &[store_id, "files"])?;
        let attached = self
            .store_file(
                &call.json(stores::attach_body(&file)).time(file.time),
                self.known_id(&file.file_id),
            )
            .await?;
        Ok(Attached {
            file: attached,
            chunking_strategy_applied: true,
            already_attached: false,
        })
    }

    async fn get_store_file(
        &self,
        store_id: &str,
        file_id: &str,
        attached_at: Option<DateTime<Utc>>,
    ) -> Result<VectorStoreFile, ProviderError> {
        let call = store_call(
            Operation::GetStoreFile,
            Method::GET,
            &[store_id, "files", file_id],
        )?;
        let result = self.store_file(&call, Some(file_id)).await;
        match (result, attached_at) {
            (Err(error), Some(at)) if error.kind == ErrorKind::NotFound && self.settling(at) => {
                Ok(not_visible_yet(store_id, file_id, at))
            }
            (result, _) => result,
        }
    }

    async fn list_store_files(
        &self,
        store_id: &str,
        page: PageRequest,
        filter: Option<StoreFileStatus>,
    ) -> Result<Page<VectorStoreFile>, ProviderError> {
        let call = store_call(Operation::ListStoreFiles, Method::GET, &[store_id, "files"])?;
        self.store_page(call.query("filter", filter), page).await
    }

    async fn update_store_file_attributes(
        &self,
        store_id: &str,
        file_id: &str,
        attributes: Attributes,
    ) -> Result<VectorStoreFile, ProviderError> {
        let segments = [store_id, "files", file_id];
        let call = store_call(Operation::UpdateStoreFileAttributes, Method::POST, &segments)?;
        let body = json!({"attributes": Value::Object(attributes)});
        self.store_file(&call.json(body).repeatable(), Some(file_id))
            .await
    }

    async fn store_file_content(
        &self,
        store_id: &str,
        file_id: &str,
    ) -> Result<ParsedContent, ProviderError> {
        let operation = Operation::StoreFileContent;
        let call = store_call(operation, Method::GET, &[store_id, "files", file_id, "content"])?
            .max_answer_bytes(MAX_PARSED_BYTES);
        stores::parsed_content(self.transport.json(&call).await?.value, Expected::new(operation))
    }

    async fn detach_file(&self, store_id: &str, file_id: &str) -> Result<Deleted, ProviderError> {
        let call = store_call(
            Operation::DetachFile,
            Method::DELETE,
            &[store_id, "files", file_id],
        )?;
        self.delete(&call, file_id, &["vector_store.file.deleted"]).await
    }

    async fn create_file_batch(
        &self,
        store_id: &str,
        files: Vec<AttachFile>,
    ) -> Result<FileBatch, ProviderError> {
        let body = batches::batch_body(&files, &self.profile.capabilities)?;
        let call = store_call(
            Operation::CreateFileBatch,
            Method::POST,
            &[store_id, "file_batches"],
        )?;
        self.batch(&call.json(body), None).await
    }

    async fn get_file_batch(&self, store_id: &str, batch_id: &str) -> Result<FileBatch, ProviderError> {
        let call = store_call(
            Operation::GetFileBatch,
            Method::GET,
            &[store_id, "file_batches", batch_id],
        )?;
        self.batch(&call, Some(batch_id)).await
    }

    async fn cancel_file_batch(&self, store_id: &str, batch_id: &str) -> Result<FileBatch, ProviderError> {
        let operation = Operation::CancelFileBatch;
        if !self.profile.capabilities.cancel_batch {
            return Err(ProviderError::unsupported(
                operation,
                "batches can't be cancelled at this provider",
            ));
        }
        let call = store_call(
            operation,
            Method::POST,
            &[store_id, "file_batches", batch_id, "cancel"],
        )?;
        self.batch(&call, Some(batch_id)).await
    }

    async fn list_file_batch_files(
        &self,
        store_id: &str,
        batch_id: &str,
        page: PageRequest,
        filter: Option<StoreFileStatus>,
    ) -> Result<Page<VectorStoreFile>, ProviderError> {
        let segments = [store_id, "file_batches", batch_id, "files"];
        let call = store_call(Operation::ListFileBatchFiles, Method::GET, &segments)?;
        self.store_page(call.query("filter", filter), page).await
    }

    async fn health(&self) -> Result<Health, ProviderError> {
        let operation = Operation::Health;
        let call = match self.profile.health {
            HealthProbe::Models => Call::get(operation, &["models"])?,
            HealthProbe::VectorStores => store_call(operation, Method::GET, &[])?.query("limit", Some(1)),
        };
        let started = Instant::now();
        let answer = self.transport.json(&call).await?;
        if !answer.value.get("data").is_some_and(Value::is_array) {
            return Err(Expected::new(operation).protocol_error("the answer is not a list"));
        }
        Ok(Health {
            latency: started.elapsed(),
        })
    }
}

impl OpenAiClient {
    fn settling(&self, since: DateTime<Utc>) -> bool {
        let age = (Utc::now() - since).to_std().unwrap_or_default();
        age < self.profile.capabilities.settle_grace
    }
}

/// A file that was attached and can't be retrieved yet.
pub(crate) fn not_visible_yet(store_id: &str, file_id: &str, attached_at: DateTime<Utc>) -> VectorStoreFile {
    VectorStoreFile {
        id: file_id.to_owned(),
        vector_store_id: store_id.to_owned(),
        status: StoreFileStatus::InProgress,
        last_error: None,
        created_at: Some(attached_at),
        usage_bytes: 0,
        chunking_strategy: None,
        attributes: Attributes::new(),
        poll_after: None,
        raw: Value::Null,
    }
}
