//! The files of a store, as its listing shows them. A listing is complete or it is an error: a part never passes for the
//! whole.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use rag_domain::{AttachmentState, FileCounts};
use rag_providers::{
    Cursor, Disposition, ErrorKind, Operation, Order, PageRequest, Provider, ProviderError, VectorStore,
    VectorStoreStatus,
};

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

/// A listing under way, one page in memory at a time.
pub(crate) struct Pages<'a> {
    provider: &'a dyn Provider,
    store: &'a str,
    after: Option<Cursor>,
    seen: HashSet<Cursor>,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(crate) fn of(provider: &'a dyn Provider, store: &'a str) -> Self {
        Self {
            provider,
            store,
            after: None,
            seen: HashSet::new(),
            ended: false,
        }
    }

    /// The next page; `None`: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<SeenFile>>, ProviderError> {
        if self.ended {
            return Ok(None);
        }
        let request = PageRequest {
            limit: Some(self.provider.capabilities().max_page_items),
            after: self.after.take(),
            order: Some(Order::Ascending),
        };
        let page = self.provider.list_store_files(self.store, request, None).await?;
        match page.next {
            Some(next) if !self.seen.insert(next.clone()) => {
                let message = "the listing repeats a cursor and would loop";
                return Err(ProviderError::new(
                    ErrorKind::Protocol,
                    Operation::ListStoreFiles,
                    message,
                ));
            }
            Some(next) => self.after = Some(next),
            None => self.ended = true,
        }
        Ok(Some(page.items.into_iter().map(SeenFile::from).collect()))
    }
}

fn has_expired(store: &VectorStore) -> bool {
    store.status == VectorStoreStatus::Expired
}

/// As [`files_of`]; an expired store that does not list its files any more has none to show.
pub(crate) async fn files_in(
    provider: &dyn Provider,
    store: &VectorStore,
) -> Result<Vec<SeenFile>, ProviderError> {
    match files_of(provider, &store.id).await {
        Err(error) if has_expired(store) && error.disposition() == Disposition::Fail => Ok(Vec::new()),
        result => result,
    }
}

/// All files of a store.
pub(crate) async fn files_of(provider: &dyn Provider, store: &str) -> Result<Vec<SeenFile>, ProviderError> {
    let (mut pages, mut files) = (Pages::of(provider, store), Vec::new());
    while let Some(page) = pages.next().await? {
        files.extend(page);
    }
    Ok(files)
}
