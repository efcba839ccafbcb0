//! Whether a store, or a file in it, is there. What is not found is not gone: see [`rag_domain::Evidence`] for what it takes.
//!
//! Reads and writes since when something is missed (`store_missed_at` of the index). Calls get and list of stores, get of
//! store files.

use futures::StreamExt as _;
use rag_db::attachments::Attachment;
use rag_db::indexes::{self, Index};
use rag_db::missing;
use rag_domain::{AttachmentId, Doubt, Evidence, Listing, Verdict};
use rag_providers::{Ability, Order, VectorStore};

use super::listing::Pages;
use super::store_file::SeenFile;
use super::{Observer, age, is_absent};
use crate::step_error::StepError;

/// Files that are asked for at the same time.
const ASKED_AT_ONCE: usize = 4;

/// What is known of a store.
#[derive(Debug)]
pub(crate) enum Presence {
    There(Box<VectorStore>),
    /// Nothing is known before another check, so long from now.
    CheckAgain(std::time::Duration),
    Unknown(Doubt),
    Gone,
}

/// Asks for the store of an index. `listing`: what a complete listing of stores says, if the caller has one already.
pub(crate) async fn of_store(
    observer: &Observer<'_>,
    index: &Index,
    store: &str,
    listing: Option<Listing>,
) -> Result<Presence, StepError> {
    match observer.provider.get_vector_store(store).await {
        Ok(found) => {
            let how = "a store was found by its id";
            observer.learn(Ability::GetVectorStore, true, how).await?;
            if index.store_missed_at.is_some() {
                let mut tx = observer.context.pool.begin().await?;
                indexes::lock_any(&mut tx, index.id).await?;
                observer.claim.fence(&mut tx).await?;
                missing::clear_store(&mut tx, index.id).await?;
                tx.commit().await?;
            }
            Ok(Presence::There(Box::new(found)))
        }
        Err(error) if is_absent(&error) => {
            tracing::warn!(index.id = %index.id, store, %error, "the provider did not find the store");
            not_found(observer, index, store, listing).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn not_found(
    observer: &Observer<'_>,
    index: &Index,
    store: &str,
    listing: Option<Listing>,
) -> Result<Presence, StepError> {
    let mut evidence = Evidence {
        listing: Listing::Unusable,
        route_answers: observer.learned.holds(Ability::GetVectorStore) == Some(true),
        missed_for: index.store_missed_at.map(age),
    };
    if let Verdict::CheckAgain(after) = evidence.judge(observer.apart()) {
        let mut tx = observer.context.pool.begin().await?;
        indexes::lock_any(&mut tx, index.id).await?;
        observer.claim.fence(&mut tx).await?;
        missing::mark_store(&mut tx, index.id, store).await?;
        tx.commit().await?;
        return Ok(Presence::CheckAgain(after));
    }
    evidence.listing = match listing {
        Some(listing) => listing,
        None => listed(observer, store).await?,
    };
    Ok(match evidence.judge(observer.apart()) {
        Verdict::CheckAgain(after) => Presence::CheckAgain(after),
        Verdict::Unknown(doubt) => Presence::Unknown(doubt),
        Verdict::Gone => Presence::Gone,
    })
}

/// The other witness.
async fn listed(observer: &Observer<'_>, store: &str) -> Result<Listing, StepError> {
    let (mut others, mut pages) = (0, Pages::of_stores(observer.provider, Order::Ascending));
    loop {
        match pages.next().await {
            Ok(Some(page)) if page.iter().any(|listed| listed.id == store) => return Ok(Listing::Has),
            Ok(Some(page)) => others += page.len(),
            Ok(None) => return Ok(Listing::Lacks { others }),
            Err(error) if is_absent(&error) => return Ok(Listing::Unusable),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What asking for a file by its id told.
#[derive(Debug)]
pub(crate) enum Direct {
    There(SeenFile),
    Absent,
    /// It was not found, by a server that is not known to find files by their ids, and did not name it.
    Unknown,
}

/// Asks for each of these files of a store. `control`: a file that the store's listing shows, to see whether the provider
/// finds files by their ids at all.
pub(crate) async fn of_files(
    observer: &Observer<'_>,
    store: &str,
    rows: &[&Attachment],
    control: Option<&str>,
) -> Result<Vec<(AttachmentId, Direct)>, StepError> {
    if let Some(control) = control.filter(|_| !rows.is_empty()) {
        finds_files(observer, store, control).await?;
    }
    let asked: Vec<_> = rows.iter().map(|row| ask(observer, store, row)).collect();
    let mut answers = futures::stream::iter(asked).buffered(ASKED_AT_ONCE);
    let mut found = Vec::with_capacity(rows.len());
    while let Some(answer) = answers.next().await {
        found.push(answer?);
    }
    Ok(found)
}

async fn ask(
    observer: &Observer<'_>,
    store: &str,
    row: &Attachment,
) -> Result<(AttachmentId, Direct), StepError> {
    let direct = match observer
        .provider
        .get_store_file(store, row.store_file_id(), None)
        .await
    {
        Ok(file) => Direct::There(SeenFile::from(file)),
        Err(error) if is_absent(&error) => match observer.learned.holds(Ability::GetStoreFile) {
            Some(true) => Direct::Absent,
            // An empty store has no file to learn it from; an answer that names the file is no stray one.
            None if error.says_absent(row.store_file_id()) => Direct::Absent,
            _ => Direct::Unknown,
        },
        Err(error) => return Err(error.into()),
    };
    Ok((row.id, direct))
}

/// Learns, once, whether the provider finds a file by its id that it lists.
pub(crate) async fn finds_files(observer: &Observer<'_>, store: &str, listed: &str) -> Result<(), StepError> {
    if observer.learned.holds(Ability::GetStoreFile).is_some() {
        return Ok(());
    }
    match observer.provider.get_store_file(store, listed, None).await {
        Ok(_) => {
            let how = "a file of a store was found by its id";
            observer.learn(Ability::GetStoreFile, true, how).await
        }
        Err(error) if is_absent(&error) => {
            let how = "a file that the store's listing shows was not found by its id";
            observer.learn(Ability::GetStoreFile, false, how).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Learns, once for a connection, that the provider finds a store by its id: without that, no 404 proves anything.
pub(crate) async fn finds_stores(observer: &Observer<'_>, store: &str) -> Result<(), StepError> {
    if observer.learned.holds(Ability::GetVectorStore).is_none()
        && observer.provider.get_vector_store(store).await.is_ok()
    {
        let how = "a store was found by its id";
        observer.learn(Ability::GetVectorStore, true, how).await?;
    }
    Ok(())
}
