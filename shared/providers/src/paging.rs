//! Walking all pages of a listing. A walk can neither loop nor stop early: a wrong "that was all" would make a sync drop what
//! is still there, so whatever is not certainly the end is an error.

use std::collections::HashSet;
use std::future::Future;

use async_trait::async_trait;

use crate::contract::Provider;
use crate::error::{ErrorKind, ProviderError};
use crate::operation::Operation;
use crate::types::{
    Cursor, Order, Page, PageRequest, ProviderFile, StoreFileStatus, VectorStore, VectorStoreFile,
};

/// More than any provider's limit on anything; beyond it a listing is taken for broken.
const MAX_ITEMS: usize = 2_000_000;

/// Fetches pages until the provider says that nothing follows, and returns everything.
///
/// # Errors
/// Any error of a page (what was fetched before is dropped: a partial listing must not look like a whole one), and
/// `Protocol` for a cursor that comes round again or a listing without end. An empty page that claims to have a successor is
/// `Protocol` when it names none, and is walked past when it does (the wire client decides that; see `protocol::list`).
pub async fn walk_pages<T, F, Fut>(operation: Operation, mut fetch: F) -> Result<Vec<T>, ProviderError>
where
    F: FnMut(Option<Cursor>) -> Fut,
    Fut: Future<Output = Result<Page<T>, ProviderError>>,
{
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let page = fetch(after).await?;
        items.extend(page.items);
        let Some(next) = page.next else { return Ok(items) };
        if items.len() > MAX_ITEMS {
            return Err(ProviderError::new(
                ErrorKind::Protocol,
                operation,
                "the listing does not end",
            ));
        }
        if !seen.insert(next.clone()) {
            return Err(ProviderError::new(
                ErrorKind::Protocol,
                operation,
                "the listing repeats a cursor and would loop",
            ));
        }
        after = Some(next);
    }
}

/// Whole listings, oldest first and in the largest pages the provider has.
#[async_trait]
pub trait ProviderExt {
    async fn all_vector_stores(&self) -> Result<Vec<VectorStore>, ProviderError>;

    async fn all_files(&self) -> Result<Vec<ProviderFile>, ProviderError>;

    async fn all_store_files(
        &self,
        store_id: &str,
        filter: Option<StoreFileStatus>,
    ) -> Result<Vec<VectorStoreFile>, ProviderError>;

    async fn all_file_batch_files(
        &self,
        store_id: &str,
        batch_id: &str,
        filter: Option<StoreFileStatus>,
    ) -> Result<Vec<VectorStoreFile>, ProviderError>;
}

fn oldest_first(limit: u32, after: Option<Cursor>) -> PageRequest {
    PageRequest {
        limit: Some(limit),
        after,
        order: Some(Order::Ascending),
    }
}

#[async_trait]
impl<P: Provider + ?Sized> ProviderExt for P {
    async fn all_vector_stores(&self) -> Result<Vec<VectorStore>, ProviderError> {
        let limit = self.capabilities().max_page_items;
        walk_pages(Operation::ListVectorStores, |after| {
            self.list_vector_stores(oldest_first(limit, after))
        })
        .await
    }

    async fn all_files(&self) -> Result<Vec<ProviderFile>, ProviderError> {
        let limit = self.capabilities().max_file_page_items;
        walk_pages(Operation::ListFiles, |after| {
            self.list_files(oldest_first(limit, after))
        })
        .await
    }

    async fn all_store_files(
        &self,
        store_id: &str,
        filter: Option<StoreFileStatus>,
    ) -> Result<Vec<VectorStoreFile>, ProviderError> {
        let limit = self.capabilities().max_page_items;
        walk_pages(Operation::ListStoreFiles, |after| {
            self.list_store_files(store_id, oldest_first(limit, after), filter.clone())
        })
        .await
    }

    async fn all_file_batch_files(
        &self,
        store_id: &str,
        batch_id: &str,
        filter: Option<StoreFileStatus>,
    ) -> Result<Vec<VectorStoreFile>, ProviderError> {
        let limit = self.capabilities().max_page_items;
        walk_pages(Operation::ListFileBatchFiles, |after| {
            self.list_file_batch_files(store_id, batch_id, oldest_first(limit, after), filter.clone())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    async fn walk(pages: Vec<(Vec<u8>, Option<&str>)>) -> Result<Vec<u8>, ProviderError> {
        let mut pages: VecDeque<_> = pages.into();
        walk_pages(Operation::ListFiles, |_after| {
            let (items, next) = pages.pop_front().expect("walked past the last page");
            let next = next.map(|cursor| Cursor(cursor.to_owned()));
            async move { Ok(Page { items, next }) }
        })
        .await
    }

    #[tokio::test]
    async fn every_page_is_walked_and_an_empty_one_does_not_end_the_walk() {
        let items = walk(vec![
            (vec![1, 2], Some("b")),
            (vec![], Some("c")),
            (vec![3], None),
        ])
        .await
        .unwrap();
        assert_eq!(items, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_cursor_that_comes_round_again_is_an_error_and_not_a_loop() {
        let error = walk(vec![
            (vec![1], Some("a")),
            (vec![2], Some("b")),
            (vec![1], Some("a")),
        ])
        .await
        .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Protocol);
    }
}
