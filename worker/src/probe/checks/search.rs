//! Searching a store.

use std::sync::Arc;

use rag_jobs::CheckResult;
use rag_providers::{Ability, SearchRequest};
use serde_json::Value;

use super::files::File;
use crate::probe::report::Probe;
use crate::probe::timed_call::timed;
use crate::step_error::StepError;

impl Probe<'_> {
    /// Whether a search tells which of our files a hit is from.
    pub(super) async fn search(&mut self, store: &str, files: &[File; 3]) -> Result<(), StepError> {
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
}
