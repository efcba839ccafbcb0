//! Everything that a provider lists, as much of it as is decided by.

use chrono::{DateTime, Utc};
use rag_providers::{Order, Page, PageRequest, ProviderError, paging};

use crate::lease::Scope;
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
    let provider = scope.provider.as_ref();
    let limit = provider.capabilities().max_page_items;
    let fetch = async |after| {
        let page = provider.list_vector_stores(oldest_first(limit, after)).await?;
        let slim = |store: rag_providers::VectorStore| Listed {
            tag: tag_of(&store).map(str::to_owned),
            index_id: store
                .metadata
                .get(TAG_INDEX)
                .and_then(|value| value.as_str())
                .map(str::to_owned),
            name: store.name,
            id: store.id,
            size_bytes: 0,
            created_at: store.created_at,
        };
        Ok::<_, ProviderError>(Page {
            items: page.items.into_iter().map(slim).collect(),
            next: page.next,
        })
    };
    Ok(paging::walk_pages(rag_providers::Operation::ListVectorStores, fetch).await?)
}

pub(super) async fn list_files(scope: &Scope<'_>) -> Result<Vec<Listed>, StepError> {
    let provider = scope.provider.as_ref();
    let limit = provider.capabilities().max_file_page_items;
    let fetch = async |after| {
        let page = provider.list_files(oldest_first(limit, after)).await?;
        let slim = |file: rag_providers::ProviderFile| Listed {
            id: file.id,
            name: file.file_name,
            size_bytes: file.size_bytes,
            created_at: file.created_at,
            tag: None,
            index_id: None,
        };
        Ok::<_, ProviderError>(Page {
            items: page.items.into_iter().map(slim).collect(),
            next: page.next,
        })
    };
    Ok(paging::walk_pages(rag_providers::Operation::ListFiles, fetch).await?)
}

fn oldest_first(limit: u32, after: Option<rag_providers::Cursor>) -> PageRequest {
    PageRequest {
        limit: Some(limit),
        after,
        order: Some(Order::Ascending),
    }
}
