//! The vector store of an index, to ask its provider right now: what a search and a live listing have in common.

use std::collections::HashMap;
use std::sync::Arc;

use rag_connections::ConnectError;
use rag_db::indexes::{self, Index};
use rag_db::{attachments, files};
use rag_domain::{DomainId, FileId, IndexId};
use rag_providers::{Provider, ProviderError};
use sqlx::MySqlConnection;

use crate::http::problem::Problem;
use crate::state::App;

/// An index with its store and a client of its provider.
pub(super) struct LiveStore {
    pub(super) index: Index,
    pub(super) store_id: String,
    pub(super) provider: Arc<dyn Provider>,
}

impl LiveStore {
    pub(super) async fn open(
        app: &App,
        db: &mut MySqlConnection,
        domain: &DomainId,
        index_id: IndexId,
    ) -> Result<Self, Problem> {
        let index = indexes::get(db, domain, index_id).await?;
        let store_id = index
            .external_id
            .clone()
            .ok_or_else(|| Problem::conflict("the index has no vector store yet: build it first"))?;
        match app.connections.open(db, &index.provider_type).await {
            Ok(provider) => Ok(Self {
                index,
                store_id,
                provider,
            }),
            Err(ConnectError::Database(error)) => Err(error.into()),
            Err(error) => Err(Problem::conflict(error.to_string())),
        }
    }

    /// Records at the index that the provider did not answer a search or listing, until one succeeds.
    pub(super) async fn not_answered(
        &self,
        app: &App,
        what: &str,
        error: &ProviderError,
    ) -> Result<(), Problem> {
        // The same error is not written again and again.
        let same = format!("the last {what} failed: {}: {}", error.operation, error.kind);
        let known = self.index.query_error.as_deref();
        if known.is_none_or(|known| !known.starts_with(&same)) {
            let text = format!("the last {what} failed: {error}");
            let mut connection = app.connection().await?;
            indexes::set_query_error(&mut connection, self.index.id, Some(&text)).await?;
        }
        Ok(())
    }

    /// Clears that record: the provider has answered.
    pub(super) async fn answered(&self, app: &App) -> Result<(), Problem> {
        if self.index.query_error.is_some() {
            indexes::set_query_error(&mut *app.connection().await?, self.index.id, None).await?;
        }
        Ok(())
    }
}

/// The local files behind the ids that the provider knows.
pub(super) struct LocalFiles {
    ids: HashMap<String, FileId>,
    names: HashMap<FileId, String>,
}

impl LocalFiles {
    pub(super) async fn of(
        db: &mut MySqlConnection,
        domain: &DomainId,
        index_id: IndexId,
    ) -> Result<Self, Problem> {
        let mut ids = HashMap::new();
        for row in attachments::list(db, index_id).await? {
            ids.insert(row.store_file_id().to_owned(), row.local_file_id);
            ids.insert(row.external_file_id, row.local_file_id);
        }
        let names = files::list_of_index(db, domain, index_id).await?;
        let names = names.into_iter().map(|file| (file.id, file.file_name)).collect();
        Ok(Self { ids, names })
    }

    /// By the id within the store, or the one of the Files API.
    pub(super) fn find(&self, external_id: &str) -> Option<FileId> {
        self.ids.get(external_id).copied()
    }

    pub(super) fn name(&self, id: FileId) -> Option<String> {
        self.names.get(&id).cloned()
    }
}
