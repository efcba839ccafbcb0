//! One poll of a store on behalf of its build: what the provider says of the files that the build waits for, written page by
//! page, and what follows for those that it does not show.
//!
//! Reads attachments. Writes attachments and the time of the listing. Calls list of store files, get of file batches and of
//! store files. Safe to repeat because it only copies what was seen.
//!
//! A listing that lacks a file says nothing while the file's batch runs, while an attach may still be on its way, or so soon
//! after it that the provider may not show it yet. After that, a second look some time later decides: the file did not come
//! in, and is attached again by the next way ([`rag_domain::WayIn`]).

use std::collections::{HashMap, HashSet};

use rag_db::attachments::{self, Attachment, NOT_IN_STORE};
use rag_db::{builds, indexes, uploads};
use rag_domain::{AttachmentId, AttachmentState, StoreDiff, WayIn};
use rag_providers::Ability;

use super::await_indexing::fail;
use super::{Build, ensure_vector_store};
use crate::halt::Halt;
use crate::observe::age;
use crate::observe::batches::Batches;
use crate::observe::is_absent;
use crate::observe::listing::Pages;
use crate::observe::presence::{self, Direct};
use crate::observe::store_file::{SeenFile, write_seen};

/// Files that are asked for one by one in one poll, where there is no listing.
const ASKED_DIRECTLY: usize = 200;

/// Looks at the store once. Answers the files that the provider has not finished with.
pub(crate) async fn poll<'a>(
    build: &Build<'_>,
    waiting: &'a [Attachment],
) -> Result<Vec<&'a Attachment>, Halt> {
    let rows: HashMap<AttachmentId, &Attachment> = waiting.iter().map(|row| (row.id, row)).collect();
    let mut diff = StoreDiff::new(waiting.iter().map(Into::into));
    let mut unfinished = Vec::new();
    let mut control = None;
    let store = build.store_id()?;
    let mut pages = Pages::of(build.provider.as_ref(), store);
    let mut met = HashSet::new();
    loop {
        let page = match pages.next().await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) if is_absent(&error) => {
                ensure_vector_store::check(build, store).await?;
                return match build.learned.holds(Ability::ListStoreFiles) {
                    // A server that has shown the files of stores will do so again.
                    Some(true) => Err(Halt::Retry {
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
    let running = judge_absent(build, &absent, control.as_deref()).await?;
    unfinished.extend(running);
    Ok(unfinished)
}

async fn write(build: &Build<'_>, seen: &[(&Attachment, &SeenFile)]) -> Result<(), Halt> {
    let (mut tx, index) = build.write_index().await?;
    indexes::set_provider_seen(&mut tx, index.id).await?;
    if seen
        .iter()
        .any(|(_, file)| file.state != AttachmentState::InProgress)
    {
        build.claim.progress(&mut tx).await?;
    }
    write_seen(&mut tx, seen).await?;
    if build.provider.capabilities().external_file_id_is_store_file {
        for (row, file) in seen
            .iter()
            .filter(|(row, file)| file.store_file_id != row.external_file_id)
        {
            let provider = &build.index.provider_type;
            uploads::set_store_file_id(&mut tx, provider, &row.external_file_id, &file.store_file_id).await?;
        }
    }
    Ok(tx.commit().await?)
}

/// Copies what was seen of a single file.
pub(crate) async fn write_one(build: &Build<'_>, row: &Attachment, file: &SeenFile) -> Result<(), Halt> {
    write(build, &[(row, file)]).await
}

/// Where a provider does not list the files of a store: each is asked for by its id. Nothing follows from one not being found.
async fn ask_directly<'a>(build: &Build<'_>, waiting: &'a [Attachment]) -> Result<Vec<&'a Attachment>, Halt> {
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

/// What the listing does not show. Answers those whose batch still runs.
async fn judge_absent<'a>(
    build: &Build<'_>,
    absent: &[&'a Attachment],
    control: Option<&str>,
) -> Result<Vec<&'a Attachment>, Halt> {
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    let store = build.store_id()?;
    let grace = build.provider.capabilities().settle_grace;
    let batches = Batches::of(&build.observer(), store, absent.iter().copied()).await?;
    let (mut running, mut ask_again, mut missed, mut candidates) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in absent {
        match row.state {
            // The answer was not heard. The request may be on its way still; once it can't be, the file is asked for anew.
            AttachmentState::Attaching if row.ask_again_at.is_none_or(|at| at <= chrono::Utc::now()) => {
                ask_again.push(row.id);
            }
            AttachmentState::Attaching => {}
            _ if batches.is_running(row) => running.push(*row),
            // Its batch has ended and counts none of its files: the batch, the listing, and now the file itself agree.
            _ if batches.took_none(row) => candidates.push(*row),
            _ if age(row.attached_at.unwrap_or(row.created_at)) <= grace => {}
            _ => match row.missed_at.map(age) {
                None => missed.push(row.id),
                Some(missed_for) if missed_for >= build.observer().apart() => candidates.push(*row),
                Some(_) => {}
            },
        }
    }
    let mut tx = build.write().await?;
    attachments::mark_missed(&mut tx, &missed).await?;
    attachments::mark_pending(&mut tx, &ask_again).await?;
    tx.commit().await?;
    if !ask_again.is_empty() {
        tracing::info!(
            files = ask_again.len(),
            "attaches were not heard of and had no effect: once more"
        );
    }
    if !candidates.is_empty() {
        let mut in_vain = Vec::new();
        for (row, (_, answer)) in candidates
            .iter()
            .zip(presence::of_files(&build.observer(), store, &candidates, control).await?)
        {
            match answer {
                Direct::There(file) => write(build, &[(*row, &file)]).await?,
                Direct::Absent | Direct::Unknown => in_vain.push(*row),
            }
        }
        did_not_come_in(build, &in_vain, &batches).await?;
    }
    Ok(running)
}

/// Files that were accepted, and are proven not to be in the store: the next way, or none.
pub(crate) async fn did_not_come_in(
    build: &Build<'_>,
    rows: &[&Attachment],
    batches: &Batches,
) -> Result<(), Halt> {
    if rows.is_empty() {
        return Ok(());
    }
    // A batch that has ended and counts none of its files has witnessed it itself.
    for way in [WayIn::BatchFiles, WayIn::BatchFileIds] {
        let ignored = rows
            .iter()
            .any(|row| row.way() == Some(way) && batches.took_none(row));
        if ignored {
            let (ability, how) = match way {
                WayIn::BatchFiles => (
                    Ability::BatchFiles,
                    "a batch of files with their own strategies ended without counting or attaching one of them",
                ),
                _ => (
                    Ability::FileBatches,
                    "a batch of file_ids ended without counting or attaching one of them",
                ),
            };
            build.observer().learn(ability, false, how).await?;
        }
    }
    let tries = build.context.settings.build_reattach_times;
    let is_last =
        |row: &Attachment| row.way().is_none_or(|way| way == WayIn::Single) && row.reattached >= tries;
    let (lost, again): (Vec<&Attachment>, Vec<&Attachment>) =
        rows.iter().copied().partition(|row| is_last(row));
    tracing::warn!(
        again = again.len(),
        failed = lost.len(),
        "files that the provider accepted did not come into the store"
    );
    let ids: Vec<_> = again.iter().map(|row| row.id).collect();
    let mut tx = build.write().await?;
    attachments::advance_method(&mut tx, &ids).await?;
    let error = "the provider accepted the file, and it did not come into the vector store";
    fail(&mut tx, &lost, NOT_IN_STORE, error).await?;
    Ok(tx.commit().await?)
}
