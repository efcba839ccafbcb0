//! Uploads, listing and contents of files.

use std::sync::Arc;

use bytes::Bytes;
use rag_db::ownership::Kind;
use rag_domain::IntentId;
use rag_jobs::CheckResult;
use rag_providers::{BytesSource, ErrorKind, FileUpload, Order, PageRequest};

use crate::probe::report::Probe;
use crate::probe::timed_call::{TimedCall, timed};
use crate::step_error::StepError;

/// Non-ASCII letters and a space: some servers change such names.
const NAMES: [&str; 3] = ["rag-probe-a.md", "rag-probe-b.md", "rag-probe Проба.md"];
/// A word of each file's own, to be found by.
const WORDS: [&str; 3] = ["quillwort", "bergamot", "samphire"];

/// A file of the probe at the provider.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) id: String,
    pub(super) word: &'static str,
}

impl Probe<'_> {
    /// Three uploads; `None`: builds can't work.
    pub(super) async fn files(&mut self) -> Result<Option<[File; 3]>, StepError> {
        let mut files = Vec::new();
        let mut slowest = 0;
        for (name, word) in NAMES.into_iter().zip(WORDS) {
            self.scope.check_running()?;
            let uploaded = self.upload(name, word).await;
            slowest = slowest.max(uploaded.latency_ms);
            match uploaded.result {
                Ok(file) => {
                    self.resources.add(Kind::File, IntentId::new(), &file.id).await?;
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

    async fn upload(&self, name: &str, word: &str) -> TimedCall<rag_providers::ProviderFile> {
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
}

/// About four hundred words: more than one chunk of the smallest strategies.
fn text(word: &str) -> String {
    let sentence =
        format!("The {word} grows by the river and is gathered in autumn by those who know {word}. ");
    format!("# {word}\n\n{}", sentence.repeat(24))
}
