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
use super::state::Build;
use super::store_check;
use crate::observe::is_absent;
use crate::observe::listing::Pages;
use crate::observe::presence::{self, Direct};
use crate::step_error::StepError;

/// Files that are asked for one by one in one poll, where there is no listing.
const ASKED_DIRECTLY: usize = 200;

/// Looks at the store once. Answers the files that the provider has not finished with.
pub(super) async fn poll<'a>(
    build: &Build<'_>,
    waiting: &'a [Attachment],
) -> Result<Vec<&'a Attachment>, StepError> {
    let rows: HashMap<AttachmentId, &Attachment> = waiting.iter().map(|row| (row.id, row)).collect();
    let mut diff = StoreDiff::new(waiting.iter().map(Into::into));
    let mut unfinished = Vec::new();
    let mut control = None;
    let store = build.store_id()?;
    let mut pages = Pages::of_store(build.provider.as_ref(), store);
    let mut met = HashSet::new();
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
                    _ => ask_directly(build, waiting).await,
                };
            }
            Err(error) => return Err(error.into()),
        };
        let mut seen = Vec::new();
        for file in &page {
            control = control.or_else(|| Some(file.store_file_id.clone()));
            let Some(row) = diff
                .meet(&file.file_id, &file.store_file_id)
                .and_then(|id| rows.get(&id))
            else {
                continue;
            };
            met.insert(row.id);
            if file.state == AttachmentState::InProgress {
                unfinished.push(*row);
            }
            // Where nothing changes nothing is written.
            if file.state != row.state || row.missed_at.is_some() {
                seen.push((*row, file));
            }
        }
        if !seen.is_empty() {
            write(build, &seen).await?;
        }
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
    let absent: Vec<&Attachment> = waiting.iter().filter(|row| !met.contains(&row.id)).collect();
    let running = absent_files::judge(build, &absent, control.as_deref()).await?;
    unfinished.extend(running);
    Ok(unfinished)
}

/// Where a provider does not list the files of a store: each is asked for by its id. Nothing follows from one not being found.
async fn ask_directly<'a>(
    build: &Build<'_>,
    waiting: &'a [Attachment],
) -> Result<Vec<&'a Attachment>, StepError> {
    let store = build.store_id()?;
    let asked: Vec<&Attachment> = waiting.iter().take(ASKED_DIRECTLY).collect();
    let mut unfinished: Vec<&Attachment> = waiting.iter().skip(ASKED_DIRECTLY).collect();
    let answers = presence::of_files(&build.observer(), store, &asked, None).await?;
    for (row, (_, answer)) in asked.into_iter().zip(answers) {
        match answer {
            Direct::There(file) if file.state != AttachmentState::InProgress => {
                write(build, &[(row, &file)]).await?;
            }
            _ => unfinished.push(row),
        }
    }
    Ok(unfinished)
}

/// Brings the rows of this build up to date, whatever they say.
pub(super) async fn poll_once(build: &Build<'_>) -> Result<(), StepError> {
    let waiting = waiting(build).await?;
    if !waiting.is_empty() {
        poll(build, &waiting).await?;
    }
    Ok(())
}

/// Attachments whose end the build waits for.
pub(super) async fn waiting(build: &Build<'_>) -> Result<Vec<Attachment>, StepError> {
    let mut db = build.context.pool.acquire().await?;
    let mut rows = attachments::list(&mut db, build.index.id).await?;
    rows.retain(|row| {
        matches!(
            row.state,
            AttachmentState::InProgress | AttachmentState::Attaching
        )
    });
    Ok(rows)
}
