//! Making and changing stores.

use std::sync::Arc;

use rag_db::ownership::Kind;
use rag_jobs::CheckResult;
use rag_providers::{Ability, Metadata, NewVectorStore, VectorStoreUpdate};
use serde_json::{Value, json};

use crate::observe::tagged_stores::TAG_INTENT;
use crate::probe::report::Probe;
use crate::probe::timed_call::timed;
use crate::step_error::StepError;

impl Probe<'_> {
    /// The probe's own store; `None`: builds can't work.
    pub(super) async fn store(&mut self) -> Result<Option<String>, StepError> {
        let tag = self.resources.new_store_tag().await?;
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
        self.resources.add(Kind::VectorStore, tag, &created.id).await?;
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
    pub(super) async fn metadata(&mut self, store: &str) {
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
}
