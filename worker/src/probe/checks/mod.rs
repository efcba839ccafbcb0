//! The operations, in the order in which each finds what it needs.

mod absence;
mod attach;
mod files;
mod search;
mod store_files;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use rag_db::ownership::Kind;
use rag_providers::PageRequest;

use super::report::Probe;
use super::timed_call::timed;
use crate::step_error::StepError;
use files::File;

/// Longer than many servers and proxies keep an unused connection open.
const IDLE: Duration = Duration::from_secs(6);

impl Probe<'_> {
    pub(super) async fn run(&mut self) -> Result<(), StepError> {
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

    /// Deletes everything again, and checks that it is gone.
    async fn endings(&mut self, store: &str, files: &[File; 3]) -> Result<(), StepError> {
        let deleted = self.resources.delete(Kind::File, &files[0].id).await?;
        self.note_call("delete_file", deleted, true, |()| "deleted".to_owned());
        let deleted = self.resources.delete(Kind::VectorStore, store).await?;
        self.note_call("delete_vector_store", deleted, true, |()| "deleted".to_owned());
        Ok(())
    }

    pub(super) async fn clean_up(&mut self) -> Result<Vec<String>, StepError> {
        self.resources.delete_all().await
    }
}
