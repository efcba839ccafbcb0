//! Files in a store: paging, filters, single files and their attributes.

use std::sync::Arc;

use rag_jobs::CheckResult;
use rag_providers::{Ability, ErrorKind, Order, PageRequest, StoreFileStatus};
use serde_json::{Value, json};

use super::files::File;
use crate::probe::report::Probe;
use crate::probe::timed_call::timed;
use crate::step_error::StepError;

impl Probe<'_> {
    /// Paging and filters of a store's files; all three are in by now.
    pub(super) async fn listing(&mut self, store: &str, files: &[File; 3]) -> Result<(), StepError> {
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

    pub(super) async fn store_file(&mut self, store: &str, file: &File) -> Result<(), StepError> {
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
}
