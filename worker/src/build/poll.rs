//! One poll of a store on behalf of its build: what the provider says of the files that the build waits for, written page by
//! page, and what follows for those that it does not show (`absent_files`).
//!
//! Reads attachments. Writes attachments and the time of the listing. Calls list of store files, get of file batches and of
//! store files. Safe to repeat because it only copies what was seen.

use std::collections::{HashMap, HashSet};

use rag_db::attachments::{self, Attachment};
use rag_db::{builds, indexes};
use rag_domain::{AttachmentId, AttachmentState, StoreDiff};
use rag_providers::Ability;

use super::absent_files;
use super::observed_files::write;
use super::snapshot::PAGE;
use super::state::Build;
use super::store_check;
use crate::observe::is_absent;
use crate::observe::listing::Pages;
use crate::observe::presence::{self, Direct};
use crate::observe::store_file::SeenFile;
use crate::step_error::StepError;

/// Files that are asked for one by one in one poll, where there is no listing.
const ASKED_DIRECTLY: u32 = 200;

/// The attachments that the provider has not finished with.
pub(super) type Unfinished = HashSet<AttachmentId>;

/// Looks at the store once.
pub(super) async fn poll(build: &Build<'_>) -> Result<Unfinished, StepError> {
    let mut unfinished = Unfinished::new();
    let mut control = None;
    let store = build.store_id()?;
    let mut pages = Pages::of_store(build.provider.as_ref(), store);
    loop {
        let page = match pages.next().await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) if is_absent(&error) => {
                store_check::check(build, store).await?;
                return match build.learned.holds(Ability::ListStoreFiles) {
                    // A server that has shown the files of stores will do so again.
                    Some(true) => Err(StepError::Retry {
                        error: format!("the files of the vector store could not be listed: {error}"),
                        after: None,
                    }),
                    _ => ask_directly(build).await,
                };
            }
            Err(error) => return Err(error.into()),
        };
        control = control.or_else(|| page.first().map(|file| file.store_file_id.clone()));
        meet(build, store, &page, &mut unfinished).await?;
    }
    let how = "the files of a store were listed";
    build.observer().learn(Ability::ListStoreFiles, true, how).await?;
    if let Some(control) = &control {
        presence::finds_files(&build.observer(), store, control).await?;
    }
    let (mut tx, index) = build.write_index().await?;
    indexes::set_provider_seen(&mut tx, index.id).await?;
    builds::set_listed(&mut tx, &build.job_id).await?;
    tx.commit().await?;
    judge_absent(build, control.as_deref(), &mut unfinished).await?;
    Ok(unfinished)
}

/// Writes what a page of the listing shows of the files that the build waits for. Where nothing changes nothing is written.
async fn meet(
    build: &Build<'_>,
    store: &str,
    page: &[SeenFile],
    unfinished: &mut Unfinished,
) -> Result<(), StepError> {
    let rows = rows_of(build, store, page).await?;
    let waiting = rows
        .iter()
        .filter(|row| AttachmentState::INDEXING.contains(&row.state));
    let by_id: HashMap<AttachmentId, &Attachment> = waiting.clone().map(|row| (row.id, row)).collect();
    let mut diff = StoreDiff::new(waiting.map(Into::into));
    let mut seen = Vec::new();
    for file in page {
        let Some(row) = diff
            .meet(&file.file_id, &file.store_file_id)
            .and_then(|id| by_id.get(&id))
        else {
            continue;
        };
        if file.state == AttachmentState::InProgress {
            unfinished.insert(row.id);
        }
        if file.state != row.state || row.missed_at.is_some() {
            seen.push((*row, file));
        }
    }
    if seen.is_empty() {
        return Ok(());
    }
    write(build, &seen).await
}

/// The rows of the files of a page.
pub(super) async fn rows_of(
    build: &Build<'_>,
    store: &str,
    page: &[SeenFile],
) -> Result<Vec<Attachment>, StepError> {
    let ids: HashSet<&str> = page
        .iter()
        .flat_map(|file| [file.file_id.as_str(), file.store_file_id.as_str()])
        .collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let mut db = build.context.pool.acquire().await?;
    Ok(attachments::list_by_external_ids(&mut db, build.index.id, store, &ids).await?)
}

/// What the build waits for and the listing did not show.
async fn judge_absent(
    build: &Build<'_>,
    control: Option<&str>,
    unfinished: &mut Unfinished,
) -> Result<(), StepError> {
    if build.count_attachments().await?.waiting() == unfinished.len() as u64 {
        return Ok(());
    }
    let mut after = None;
    loop {
        let mut db = build.context.pool.acquire().await?;
        let rows = attachments::list_waiting(&mut db, build.index.id, after, PAGE).await?;
        drop(db);
        let absent: Vec<&Attachment> = rows.iter().filter(|row| !unfinished.contains(&row.id)).collect();
        let running = absent_files::judge(build, &absent, control).await?;
        unfinished.extend(running.into_iter().map(|row| row.id));
        match rows.last().filter(|_| rows.len() >= PAGE as usize) {
            Some(last) => after = Some(last.id),
            None => return Ok(()),
        }
    }
}

/// Where a provider does not list the files of a store: each is asked for by its id. Nothing follows from one not being found.
async fn ask_directly(build: &Build<'_>) -> Result<Unfinished, StepError> {
    let store = build.store_id()?;
    let mut db = build.context.pool.acquire().await?;
    let rows = attachments::list_waiting(&mut db, build.index.id, None, ASKED_DIRECTLY).await?;
    drop(db);
    let asked: Vec<&Attachment> = rows.iter().collect();
    let answers = presence::of_files(&build.observer(), store, &asked, None).await?;
    for (row, (_, answer)) in asked.into_iter().zip(answers) {
        match answer {
            Direct::There(file) if file.state != AttachmentState::InProgress => {
                write(build, &[(row, &file)]).await?;
            }
            _ => {}
        }
    }
    let mut unfinished = Unfinished::new();
    let mut after = None;
    loop {
        let mut db = build.context.pool.acquire().await?;
        let rows = attachments::list_waiting(&mut db, build.index.id, after, PAGE).await?;
        unfinished.extend(rows.iter().map(|row| row.id));
        match rows.last().filter(|_| rows.len() >= PAGE as usize) {
            Some(last) => after = Some(last.id),
            None => return Ok(unfinished),
        }
    }
}
