//! Everything that a provider lists, as much of it as is decided by.

use chrono::{DateTime, Utc};
use rag_providers::{Order, ProviderFile, VectorStore};
use serde_json::Value;

use crate::lease::Scope;
use crate::observe::listing::Pages;
use crate::observe::tagged_stores::{TAG_INDEX, tag_of};
use crate::step_error::StepError;

/// A store or file as it was listed, as much of it as is decided by.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) tag: Option<String>,
    pub(super) index_id: Option<String>,
}

pub(super) async fn list_stores(scope: &Scope<'_>) -> Result<Vec<Listed>, StepError> {
    let slim = |store: VectorStore| Listed {
        tag: tag_of(&store).map(str::to_owned),
        index_id: store
            .metadata
            .get(TAG_INDEX)
            .and_then(Value::as_str)
            .map(str::to_owned),
        name: store.name,
        id: store.id,
        size_bytes: 0,
        created_at: store.created_at,
    };
    Ok(Pages::of_stores(scope.provider.as_ref(), Order::Ascending)
        .all(slim)
        .await?)
}

pub(super) async fn list_files(scope: &Scope<'_>) -> Result<Vec<Listed>, StepError> {
    let slim = |file: ProviderFile| Listed {
        id: file.id,
        name: file.file_name,
        size_bytes: file.size_bytes,
        created_at: file.created_at,
        tag: None,
        index_id: None,
    };
    Ok(Pages::of_files(scope.provider.as_ref(), Order::Ascending)
        .all(slim)
        .await?)
}
