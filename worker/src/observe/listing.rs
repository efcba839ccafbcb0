//! Listings of stores, of files, and of the files in a store. A listing is complete or it is an error: a part never passes for
//! the whole.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use rag_domain::{AttachmentState, FileCounts};
use rag_providers::{
    Cursor, Disposition, ErrorKind, Operation, Order, Page, PageRequest, Provider, ProviderError,
    ProviderFile, VectorStore, VectorStoreStatus,
};

use super::calls::Calls;
use super::store_file::SeenFile;

/// How far the provider's clock may be behind the database's.
pub(crate) const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// A store with all its files.
#[derive(Debug)]
pub(crate) struct StoreListing {
    pub(crate) store: VectorStore,
    /// In the order of the listing, oldest first.
    pub(crate) files: Vec<SeenFile>,
    /// Before anything was asked.
    pub(crate) begun_at: DateTime<Utc>,
}

impl StoreListing {
    /// What an expired store lists, or does not, says nothing of its files.
    pub(crate) fn has_expired(&self) -> bool {
        has_expired(&self.store)
    }

    /// The files by their states, as adds them up.
    pub(crate) fn counts(&self) -> FileCounts {
        let mut counts = FileCounts::default();
        for file in &self.files {
            match file.state {
                AttachmentState::Completed => counts.completed += 1,
                AttachmentState::Failed => counts.failed += 1,
                AttachmentState::Cancelled => counts.cancelled += 1,
                _ => counts.in_progress += 1,
            }
        }
        counts
    }
}

/// More than any provider's limit on anything; beyond it a listing is taken for broken.
const MAX_ITEMS: usize = 2_000_000;

type Fetch<'a, T> = dyn Fn(PageRequest) -> BoxFuture<'a, Result<Page<T>, ProviderError>> + Send + Sync + 'a;

/// A listing under way, one page in memory at a time. It ends, or is an error: it can neither loop nor stop early.
pub(crate) struct Pages<'a, T> {
    operation: Operation,
    fetch: Box<Fetch<'a, T>>,
    limit: u32,
    order: Order,
    after: Option<Cursor>,
    seen: HashSet<Cursor>,
    items: usize,
    ended: bool,
    calls: Option<&'a Calls>,
}

impl<'a> Pages<'a, VectorStore> {
    /// All stores of the account.
    pub(crate) fn of_stores(provider: &'a dyn Provider, order: Order) -> Self {
        let limit = provider.capabilities().max_page_items;
        let fetch = move |request| provider.list_vector_stores(request);
        Self::new(Operation::ListVectorStores, limit, order, Box::new(fetch))
    }
}

impl<'a> Pages<'a, ProviderFile> {
    /// All files of the account.
    pub(crate) fn of_files(provider: &'a dyn Provider, order: Order) -> Self {
        let limit = provider.capabilities().max_file_page_items;
        let fetch = move |request| provider.list_files(request);
        Self::new(Operation::ListFiles, limit, order, Box::new(fetch))
    }
}

impl<'a> Pages<'a, SeenFile> {
    /// The files of a store, oldest first.
    pub(crate) fn of_store(provider: &'a dyn Provider, store: &'a str) -> Self {
        let limit = provider.capabilities().max_page_items;
        let fetch = move |request| {
            let page = provider.list_store_files(store, request, None);
            page.map_ok(|page| Page {
                items: page.items.into_iter().map(SeenFile::from).collect(),
                next: page.next,
            })
            .boxed()
        };
        Self::new(
            Operation::ListStoreFiles,
            limit,
            Order::Ascending,
            Box::new(fetch),
        )
    }
}

impl<'a, T> Pages<'a, T> {
    fn new(operation: Operation, limit: u32, order: Order, fetch: Box<Fetch<'a, T>>) -> Self {
        Self {
            operation,
            fetch,
            limit,
            order,
            after: None,
            seen: HashSet::new(),
            items: 0,
            ended: false,
            calls: None,
        }
    }

    /// Each page waits for its turn among these calls.
    pub(crate) fn among(mut self, calls: Option<&'a Calls>) -> Self {
        self.calls = calls;
        self
    }

    /// Goes on where another claim's listing ended.
    pub(crate) fn starting_after(mut self, cursor: Option<Cursor>) -> Self {
        self.after = cursor;
        self
    }

    /// The cursor that the next page is asked for with; `None`: there is none.
    pub(crate) const fn cursor(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// The next page; `None`: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<T>>, ProviderError> {
        if self.ended {
            return Ok(None);
        }
        let request = PageRequest {
            limit: Some(self.limit),
            after: self.after.take(),
            order: Some(self.order),
        };
        let page = (self.fetch)(request);
        let page = match self.calls {
            Some(calls) => calls.make(page).await?,
            None => page.await?,
        };
        self.items += page.items.len();
        match page.next {
            Some(_) if self.items > MAX_ITEMS => return Err(self.broken("the listing does not end")),
            Some(next) if !self.seen.insert(next.clone()) => {
                return Err(self.broken("the listing repeats a cursor and would loop"));
            }
            Some(next) => self.after = Some(next),
            None => self.ended = true,
        }
        Ok(Some(page.items))
    }

    fn broken(&self, why: &str) -> ProviderError {
        ProviderError::new(ErrorKind::Protocol, self.operation, why)
    }

    /// Everything, each item made smaller as it comes.
    pub(crate) async fn all<U>(mut self, slim: impl Fn(T) -> U) -> Result<Vec<U>, ProviderError> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page.into_iter().map(&slim));
        }
        Ok(all)
    }

    /// Of a listing with the newest first: what is not known to be older than `since`. Ends with the first page that has
    /// something older.
    pub(crate) async fn since(
        mut self,
        since: DateTime<Utc>,
        created_at: impl Fn(&T) -> Option<DateTime<Utc>>,
    ) -> Result<Vec<T>, ProviderError> {
        let is_old = |item: &T| created_at(item).is_some_and(|at| at < since);
        let mut found = Vec::new();
        while let Some(page) = self.next().await? {
            let ends = page.iter().any(is_old);
            found.extend(page.into_iter().filter(|item| !is_old(item)));
            if ends {
                break;
            }
        }
        Ok(found)
    }
}

fn has_expired(store: &VectorStore) -> bool {
    store.status == VectorStoreStatus::Expired
}

/// As [`files_of`]; an expired store that does not list its files any more has none to show. `calls`: what each page waits for
/// its turn among.
pub(crate) async fn files_in(
    provider: &dyn Provider,
    store: &VectorStore,
    calls: Option<&Calls>,
) -> Result<Vec<SeenFile>, ProviderError> {
    let pages = Pages::of_store(provider, &store.id).among(calls);
    match pages.all(|file| file).await {
        Err(error) if has_expired(store) && error.disposition() == Disposition::Fail => Ok(Vec::new()),
        result => result,
    }
}

/// All files of a store.
pub(crate) async fn files_of(provider: &dyn Provider, store: &str) -> Result<Vec<SeenFile>, ProviderError> {
    Pages::of_store(provider, store).all(|file| file).await
}
