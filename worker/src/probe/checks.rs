//! The operations, in the order in which each finds what it needs; attaching is in `attach`.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

use rag_db::ownership::Kind;
use rag_domain::IntentId;
use rag_jobs::CheckResult;
use rag_providers::{
    Ability, BytesSource, ErrorKind, FileUpload, Metadata, NewVectorStore, Order, PageRequest, ProviderError,
    SearchRequest, StoreFileStatus, VectorStoreUpdate,
};
use serde_json::{Value, json};

use super::tried::{Tried, timed};
use super::{Probe, attach};
use crate::halt::Halt;
use crate::pipeline::TAG_INTENT;

/// Longer than many servers and proxies keep an unused connection open.
const IDLE: Duration = Duration::from_secs(6);
/// Non-ASCII letters and a space: some servers change such names.
const NAMES: [&str; 3] = ["rag-probe-a.md", "rag-probe-b.md", "rag-probe Проба.md"];
/// A word of each file's own, to be found by.
const WORDS: [&str; 3] = ["quillwort", "bergamot", "samphire"];

/// A file of the probe at the provider.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) id: String,
    word: &'static str,
}

impl Probe<'_> {
    pub(super) async fn run(&mut self) -> Result<(), Halt> {
        let provider = Arc::clone(&self.scope.provider);
        let page = PageRequest {
            limit: Some(1),
            ..PageRequest::default()
        };
        let listed = timed!(async { provider.list_vector_stores(page.clone()).await });
        let listed = self.note_call("list_vector_stores", listed, true, |page| {
            format!("a page of {} answered", page.items.len())
        });
        if listed.is_none() {
            return Ok(());
        }
        let Some(files) = self.files().await? else {
            return Ok(());
        };
        let Some(store) = self.store().await? else {
            return Ok(());
        };
        self.metadata(&store).await;
        attach::run(self, &store, &files).await?;
        if self.obstacle.is_none() {
            self.listing(&store, &files).await?;
            self.store_file(&store, &files[2]).await?;
            self.search(&store, &files).await?;
        } else {
            for name in [
                "list_store_files",
                "get_store_file",
                "update_attributes",
                "search",
            ] {
                self.skip(name, "no file could be attached");
            }
        }
        self.unknown_ids(&store, &files[0].id).await?;
        self.idle_connection(&store).await;
        self.endings(&store, &files).await
    }

    /// Three uploads; `None`: builds can't work.
    async fn files(&mut self) -> Result<Option<[File; 3]>, Halt> {
        let mut files = Vec::new();
        let mut slowest = 0;
        for (name, word) in NAMES.into_iter().zip(WORDS) {
            self.scope.check_running()?;
            let uploaded = self.upload(name, word).await;
            slowest = slowest.max(uploaded.latency_ms);
            match uploaded.result {
                Ok(file) => {
                    self.belongings.add(Kind::File, IntentId::new(), &file.id).await?;
                    files.push((File { id: file.id, word }, file.file_name));
                }
                Err(error) => {
                    self.note_error("upload_file", &error, uploaded.latency_ms, true);
                    return Ok(None);
                }
            }
        }
        self.note(
            "upload_file",
            CheckResult::Works,
            "three small files went up",
            Some(slowest),
        );
        let provider = Arc::clone(&self.scope.provider);
        let (third, name) = &files[2];
        let got = timed!(async { provider.get_file(&third.id).await });
        if let Some(got) = self.note_call("get_file", got, false, |_| "found by its id".to_owned()) {
            let seen = if got.file_name.is_empty() {
                name
            } else {
                &got.file_name
            };
            if seen == NAMES[2] {
                self.note(
                    "file_names",
                    CheckResult::Works,
                    "come back as they were sent",
                    None,
                );
            } else {
                let detail = format!("{:?} came back as {seen:?}", NAMES[2]);
                self.note("file_names", CheckResult::Differs, detail, None);
            }
        }
        self.file_listing(&files[0].0.id).await;
        self.content(&files[0].0).await;
        let files: Vec<File> = files.into_iter().map(|(file, _)| file).collect();
        Ok(files.try_into().ok())
    }

    async fn upload(&self, name: &str, word: &str) -> Tried<rag_providers::ProviderFile> {
        let text = text(word);
        let provider = self.scope.provider.as_ref();
        timed!(async {
            let upload = FileUpload {
                file_name: name.to_owned(),
                content_type: Some("text/markdown".to_owned()),
                size_bytes: text.len() as u64,
                sha256: None,
                body: Arc::new(BytesSource(Bytes::from(text.clone()))),
            };
            provider.upload_file(upload).await
        })
    }

    /// The listing of files ends, goes on from a cursor, and has a file that has just gone up.
    async fn file_listing(&mut self, id: &str) {
        let provider = Arc::clone(&self.scope.provider);
        let page = |limit, after| PageRequest {
            limit: Some(limit),
            after,
            order: Some(Order::Descending),
        };
        let first = timed!(async { provider.list_files(page(2, None)).await });
        let latency = first.latency_ms;
        let first = match first.result {
            Ok(first) => first,
            Err(error) => return self.note_error("list_files", &error, latency, false),
        };
        let has_it = |items: &[rag_providers::ProviderFile]| items.iter().any(|file| file.id == id);
        let is_longer = first.items.len() > 2;
        let mut found = has_it(&first.items);
        let mut next = first.next;
        let mut pages = 1;
        while let Some(after) = next.take().filter(|_| !found && pages < 5) {
            match provider.list_files(page(100, Some(after))).await {
                Ok(further) => {
                    found = has_it(&further.items);
                    next = further.next;
                    pages += 1;
                }
                Err(error) => return self.note_error("list_files", &error, latency, false),
            }
        }
        let (result, detail) = match (found, is_longer) {
            (true, false) => (CheckResult::Works, "in pages, newest first"),
            (true, true) => (CheckResult::Differs, "ignores `limit`: all files come at once"),
            (false, _) => (
                CheckResult::Differs,
                "a file that had just gone up is not among the newest",
            ),
        };
        self.note("list_files", result, detail, Some(latency));
    }

    async fn content(&mut self, file: &File) {
        let provider = Arc::clone(&self.scope.provider);
        let read = timed!(async {
            use futures::TryStreamExt as _;
            let content = provider.file_content(&file.id).await?;
            content
                .stream
                .try_fold(Vec::new(), |mut all, part| async move {
                    all.extend_from_slice(&part);
                    Ok(all)
                })
                .await
        });
        match read.result {
            Ok(bytes) if bytes == text(file.word).as_bytes() => {
                let detail = "the bytes come back; syncs can compare them";
                self.note("file_content", CheckResult::Works, detail, Some(read.latency_ms));
            }
            Ok(_) => {
                let detail = "other bytes came back than were sent";
                self.note(
                    "file_content",
                    CheckResult::Differs,
                    detail,
                    Some(read.latency_ms),
                );
            }
            Err(error) if error.kind == ErrorKind::ContentUnavailable => {
                let detail = "the provider hands no bytes out; syncs can't compare them";
                self.note(
                    "file_content",
                    CheckResult::Missing,
                    detail,
                    Some(read.latency_ms),
                );
            }
            Err(error) => self.note_error("file_content", &error, read.latency_ms, false),
        }
    }

    /// The probe's own store; `None`: builds can't work.
    async fn store(&mut self) -> Result<Option<String>, Halt> {
        let tag = self.belongings.new_store_tag().await?;
        let provider = Arc::clone(&self.scope.provider);
        let created = timed!(async {
            let metadata = Metadata::from([
                (TAG_INTENT.to_owned(), tag.to_string()),
                ("rag_probe".to_owned(), self.scope.claim.job_id().to_string()),
            ]);
            let store = NewVectorStore {
                name: Some("rag-probe".to_owned()),
                metadata,
                ..NewVectorStore::default()
            };
            provider.create_vector_store(store).await
        });
        let created = self.note_call("create_vector_store", created, true, |_| "made".to_owned());
        let Some(created) = created else { return Ok(None) };
        self.belongings.add(Kind::VectorStore, tag, &created.id).await?;
        let got = timed!(async { provider.get_vector_store(&created.id).await });
        let got = self.note_call("get_vector_store", got, false, |_| "found by its id".to_owned());
        let how = "a probe asked for its own store";
        if let Some(got) = got {
            self.learn(Ability::GetVectorStore, true, how).await?;
            let tagged =
                got.metadata.get(TAG_INTENT).and_then(Value::as_str) == Some(tag.to_string().as_str());
            let (result, detail) = if tagged {
                (CheckResult::Works, "a store keeps the metadata it was made with")
            } else {
                let detail = "a store does not keep its metadata: one whose creation was not answered can't be found again";
                (CheckResult::Differs, detail)
            };
            self.note("store_metadata", result, detail, None);
        }
        Ok(Some(created.id))
    }

    /// Reads, merges, writes: what the server keeps there itself must stay.
    async fn metadata(&mut self, store: &str) {
        const NAME: &str = "update_store_metadata";
        let provider = Arc::clone(&self.scope.provider);
        let update = timed!(async {
            let before = provider.get_vector_store(store).await?;
            let mut metadata = before.metadata;
            metadata.insert("rag_probe_note".to_owned(), json!("changed"));
            let update = VectorStoreUpdate {
                metadata: Some(metadata.clone()),
                ..VectorStoreUpdate::default()
            };
            provider.update_vector_store(store, update).await?;
            Ok((metadata, provider.get_vector_store(store).await?))
        });
        match update.result {
            Ok((wanted, after)) => {
                let kept = wanted
                    .iter()
                    .all(|(key, value)| after.metadata.get(key) == Some(value));
                let (result, detail) = if kept {
                    (CheckResult::Works, "changed, and what was there before is kept")
                } else {
                    (CheckResult::Differs, "the metadata is not as it was written")
                };
                self.note(NAME, result, detail, Some(update.latency_ms));
            }
            Err(error) => self.note_error(NAME, &error, update.latency_ms, false),
        }
    }

    /// Paging and filters of a store's files; all three are in by now.
    async fn listing(&mut self, store: &str, files: &[File; 3]) -> Result<(), Halt> {
        const NAME: &str = "list_store_files";
        let provider = Arc::clone(&self.scope.provider);
        let page = |limit, after| PageRequest {
            limit: Some(limit),
            after,
            order: Some(Order::Ascending),
        };
        let first = timed!(async { provider.list_store_files(store, page(2, None), None).await });
        let latency = first.latency_ms;
        let first = match first.result {
            Ok(first) => first,
            Err(error) => {
                self.note_error(NAME, &error, latency, true);
                if error.kind == ErrorKind::Unsupported {
                    self.learn(Ability::ListStoreFiles, false, "a probe found no such route")
                        .await?;
                }
                return Ok(());
            }
        };
        let how = "a probe listed its own store";
        self.learn(Ability::ListStoreFiles, true, how).await?;
        let mut ids: Vec<String> = first.items.iter().map(|file| file.file_id().to_owned()).collect();
        let came_at_once = ids.len() > 2;
        if let Some(after) = first.next {
            match provider.list_store_files(store, page(2, Some(after)), None).await {
                Ok(second) => ids.extend(second.items.iter().map(|file| file.file_id().to_owned())),
                Err(error) => {
                    self.note_error(NAME, &error, latency, true);
                    return Ok(());
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let all = files.iter().all(|file| ids.contains(&file.id));
        let (result, detail) = match (all, came_at_once) {
            (true, false) => (CheckResult::Works, "in pages that go on from a cursor".to_owned()),
            (true, true) => (
                CheckResult::Differs,
                "ignores `limit`: all files come at once".to_owned(),
            ),
            (false, _) => {
                let seen = files.iter().filter(|file| ids.contains(&file.id)).count();
                (
                    CheckResult::Failed,
                    format!("{seen} of 3 files came in two pages of two"),
                )
            }
        };
        self.note(NAME, result, detail, Some(latency));
        let filter = Some(StoreFileStatus::Failed);
        let filtered = timed!(async {
            provider
                .list_store_files(store, page(100, None), filter.clone())
                .await
        });
        match filtered.result {
            Ok(page)
                if page
                    .items
                    .iter()
                    .all(|file| file.status == StoreFileStatus::Failed) =>
            {
                let detail = "only files in the state that was asked for";
                self.note(
                    "filter_store_files",
                    CheckResult::Works,
                    detail,
                    Some(filtered.latency_ms),
                );
            }
            Ok(_) => {
                let detail = "ignored: files in other states come, too";
                self.note(
                    "filter_store_files",
                    CheckResult::Differs,
                    detail,
                    Some(filtered.latency_ms),
                );
            }
            Err(error) => self.note_error("filter_store_files", &error, filtered.latency_ms, false),
        }
        Ok(())
    }

    async fn store_file(&mut self, store: &str, file: &File) -> Result<(), Halt> {
        let provider = Arc::clone(&self.scope.provider);
        let got = timed!(async { provider.get_store_file(store, &file.id, None).await });
        if self
            .note_call("get_store_file", got, false, |_| "found by its id".to_owned())
            .is_some()
        {
            self.learn(Ability::GetStoreFile, true, "a probe asked for its own file")
                .await?;
        }
        let attributes = json!({"rag_probe": "yes"});
        let Value::Object(attributes) = attributes else {
            return Ok(());
        };
        let updated = timed!(async {
            provider
                .update_store_file_attributes(store, &file.id, attributes.clone())
                .await?;
            provider.get_store_file(store, &file.id, None).await
        });
        match updated.result {
            Ok(after) if after.attributes.get("rag_probe") == attributes.get("rag_probe") => {
                let detail = "changed in place";
                self.note(
                    "update_attributes",
                    CheckResult::Works,
                    detail,
                    Some(updated.latency_ms),
                );
            }
            Ok(_) => {
                let detail = "answered, and not changed";
                self.note(
                    "update_attributes",
                    CheckResult::Differs,
                    detail,
                    Some(updated.latency_ms),
                );
            }
            Err(error) => self.note_error("update_attributes", &error, updated.latency_ms, false),
        }
        Ok(())
    }

    /// Whether a search tells which of our files a hit is from.
    async fn search(&mut self, store: &str, files: &[File; 3]) -> Result<(), Halt> {
        let provider = Arc::clone(&self.scope.provider);
        let request = SearchRequest {
            queries: vec![format!("What is {}?", files[0].word)],
            max_num_results: Some(10),
            ..SearchRequest::default()
        };
        let found = timed!(async { provider.search_vector_store(store, request.clone()).await });
        let page = match found.result {
            Ok(page) => page,
            Err(error) => {
                self.note_error("search", &error, found.latency_ms, false);
                return Ok(());
            }
        };
        let is_ours = |id: &str| files.iter().any(|file| file.id == id);
        let by_attribute = |hit: &rag_providers::SearchHit| {
            hit.attributes
                .get("file_id")
                .and_then(Value::as_str)
                .is_some_and(is_ours)
        };
        let (result, detail, ids) = if page.hits.is_empty() {
            (CheckResult::Differs, "answered without a hit", None)
        } else if page.hits.iter().all(|hit| is_ours(&hit.file_id)) {
            (CheckResult::Works, "hits name our files", Some(true))
        } else if page
            .hits
            .iter()
            .all(|hit| is_ours(&hit.file_id) || by_attribute(hit))
        {
            let detail = "hits have ids of the server's own; ours is in their attributes";
            (CheckResult::Differs, detail, Some(true))
        } else {
            let detail = "hits have ids that lead to none of our files";
            (CheckResult::Differs, detail, Some(false))
        };
        self.note("search", result, detail, Some(found.latency_ms));
        if let Some(ids) = ids {
            self.learn(Ability::SearchFileIds, ids, detail).await?;
        }
        Ok(())
    }

    /// What is not there has to be told from what failed.
    async fn unknown_ids(&mut self, store: &str, file: &str) -> Result<(), Halt> {
        let provider = Arc::clone(&self.scope.provider);
        let (no_store, no_file) = (unlike(store), unlike(file));
        let told: [(&str, Tried<()>); 4] = [
            (
                "unknown_store",
                timed!(async { provider.get_vector_store(&no_store).await.map(drop) }),
            ),
            (
                "unknown_file",
                timed!(async { provider.get_file(&no_file).await.map(drop) }),
            ),
            (
                "unknown_store_file",
                timed!(async { provider.get_store_file(store, &no_file, None).await.map(drop) }),
            ),
            (
                "detach_unknown_file",
                timed!(async {
                    match provider.detach_file(store, &no_file).await {
                        Ok(deleted) if deleted.existed => Ok(()),
                        Ok(_) => Err(ProviderError::new(
                            ErrorKind::NotFound,
                            rag_providers::Operation::DetachFile,
                            "absent",
                        )),
                        Err(error) => Err(error),
                    }
                }),
            ),
        ];
        for (name, tried) in told {
            let latency = Some(tried.latency_ms);
            match tried.result {
                Err(error) if error.kind == ErrorKind::NotFound => {
                    let status = error
                        .status
                        .map_or_else(String::new, |status| format!(" (HTTP {status})"));
                    self.note(
                        name,
                        CheckResult::Works,
                        format!("said to be absent{status}"),
                        latency,
                    );
                }
                Err(error) => self.note(
                    name,
                    CheckResult::Differs,
                    format!("not told from a failure: {error}"),
                    latency,
                ),
                Ok(()) => self.note(name, CheckResult::Differs, "said to be there", latency),
            }
        }
        Ok(())
    }

    /// A refusal and a pause must not cost the next call.
    async fn idle_connection(&mut self, store: &str) {
        let provider = Arc::clone(&self.scope.provider);
        let after_refusal = timed!(async { provider.get_vector_store(store).await });
        self.note_call("call_after_a_refusal", after_refusal, false, |_| {
            "answered".to_owned()
        });
        tokio::time::sleep(IDLE).await;
        let after_pause = timed!(async { provider.get_vector_store(store).await });
        self.note_call("call_after_a_pause", after_pause, false, |_| {
            format!("answered after {} s without a call", IDLE.as_secs())
        });
    }

    /// Takes everything away again, and looks whether it is gone.
    async fn endings(&mut self, store: &str, files: &[File; 3]) -> Result<(), Halt> {
        let deleted = self.belongings.delete(Kind::File, &files[0].id).await?;
        self.note_call("delete_file", deleted, true, |()| "deleted".to_owned());
        let deleted = self.belongings.delete(Kind::VectorStore, store).await?;
        self.note_call("delete_vector_store", deleted, true, |()| "deleted".to_owned());
        Ok(())
    }

    pub(super) async fn clean_up(&mut self) -> Result<Vec<String>, Halt> {
        self.belongings.delete_all().await
    }
}

/// About four hundred words: more than one chunk of the smallest strategies.
fn text(word: &str) -> String {
    let sentence =
        format!("The {word} grows by the river and is gathered in autumn by those who know {word}. ");
    format!("# {word}\n\n{}", sentence.repeat(24))
}

/// An id of the same form that nothing has: the last characters are others.
fn unlike(id: &str) -> String {
    let keep = id.len().saturating_sub(6);
    id.char_indices()
        .map(|(place, letter)| match letter {
            letter if place < keep || !letter.is_ascii_alphanumeric() => letter,
            '0' => '1',
            _ => '0',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_keeps_the_form() {
        for id in ["vs_68f0a0b0c", "file-000000", "d3b07384-000a-4b6e"] {
            let made = unlike(id);
            assert_ne!(made, id);
            assert_eq!(made.len(), id.len());
            assert_eq!(made.find(['_', '-']), id.find(['_', '-']));
        }
    }
}
