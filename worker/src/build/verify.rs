//! Step 6: the store holds what our rows say, and nothing more of ours.
//!
//! Reads attachments and what we ever made at the provider. Writes attachments. Calls get of the store, list of store files, get of store files,
//! and detach. Safe to repeat because it compares anew each time, and a detach of something absent is a success.
//!
//! Where nothing happened in the build that the store's counts could not show, its counts are asked and not its files.
//!
//! This is where late effects are found: a detach that took effect after the file was attached again, an attach that took
//! effect after the file had been unlinked, a file that another store's detach took out of ours. What is missing goes in
//! again; what is ours and belongs to no row is taken out; what is not ours is left alone. After [`MAX_REPAIR_ROUNDS`] it is a
//! failure with a name.

use std::collections::{HashMap, HashSet};

use rag_db::attachments::{self, Attachment, NOT_IN_STORE};
use rag_db::builds;
use rag_db::ownership::{self, Kind};
use rag_domain::{AttachmentId, AttachmentState, StoreDiff};
use rag_providers::Ability;

use super::poll::rows_of;
use super::snapshot::PAGE;
use super::state::{Build, MAX_REPAIR_ROUNDS};
use super::step::Step;
use super::store_check;
use crate::observe::age;
use crate::observe::is_absent;
use crate::observe::listing::Pages;
use crate::observe::presence::{self, Direct};
use crate::observe::store_file::SeenFile;
use crate::step_error::StepError;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    build.unverified.clear();
    let store = build.store_id()?.to_owned();
    if counts_agree(build, &store).await? {
        return Ok(Step::Finish);
    }
    let Some(found) = compare(build, &store).await? else {
        build
            .unverified
            .push("the provider does not list the files of its stores".to_owned());
        return Ok(Step::Finish);
    };
    let missing: Vec<&Attachment> = found.missing.iter().collect();
    let lost = lost(build, &store, &missing, found.control.as_deref()).await?;
    if lost.is_empty() && found.surplus.is_empty() {
        return Ok(if found.unfinished {
            Step::AwaitIndexing
        } else {
            Step::Finish
        });
    }
    repair(build, &store, &lost, &found.surplus).await
}

/// Whether the store's own counts prove what a listing would: all of our files are in it and indexed, it has no others, together they
/// use as many bytes as ours do, and nothing happened in this build that a count could not show. A server that counts no bytes
/// proves nothing so, nor does one of which it is not known that it could list its files.
async fn counts_agree(build: &Build<'_>, store: &str) -> Result<bool, StepError> {
    let mut db = build.context.pool.acquire().await?;
    let needs_listing = builds::find(&mut db, &build.job_id)
        .await?
        .is_none_or(|build| build.needs_listing);
    let rows = attachments::count(&mut db, build.index.id).await?;
    drop(db);
    let is_plain = !needs_listing && rows.missed == 0 && rows.total() == rows.completed;
    if !is_plain || rows.usage_bytes == 0 || build.learned.holds(Ability::ListStoreFiles) != Some(true) {
        return Ok(false);
    }
    let found = store_check::check(build, store).await?;
    let counts = found.file_counts;
    Ok(counts.completed == rows.completed
        && counts.total == rows.completed
        && found.usage_bytes == rows.usage_bytes)
}

/// What the listing shows.
#[derive(Default)]
struct Found {
    /// Rows that claim a file which is not there.
    missing: Vec<Attachment>,
    /// Files that we made and that no row claims, as the store calls them.
    surplus: Vec<String>,
    /// A file is being indexed again.
    unfinished: bool,
    /// Any file of the listing.
    control: Option<String>,
}

/// `None`: the provider has no such listing.
async fn compare(build: &Build<'_>, store: &str) -> Result<Option<Found>, StepError> {
    let mut found = Found::default();
    let mut met = HashSet::new();
    let mut pages = Pages::of_store(build.provider.as_ref(), store);
    loop {
        build.check_running()?;
        let page = match pages.next().await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) if is_absent(&error) => {
                store_check::check(build, store).await?;
                if build.learned.holds(Ability::ListStoreFiles) == Some(true) {
                    return Err(store_check::missing(build, store, error).await);
                }
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        compare_page(build, store, &page, &mut met, &mut found).await?;
    }
    let mut after = None;
    loop {
        let mut db = build.context.pool.acquire().await?;
        let rows = attachments::list_page(&mut db, build.index.id, after, PAGE).await?;
        after = rows
            .last()
            .filter(|_| rows.len() >= PAGE as usize)
            .map(|row| row.id);
        found.missing.extend(rows.into_iter().filter(|row| {
            row.external_store_id == store && row.state.claims_presence() && !met.contains(&row.id)
        }));
        if after.is_none() {
            return Ok(Some(found));
        }
    }
}

async fn compare_page(
    build: &Build<'_>,
    store: &str,
    page: &[SeenFile],
    met: &mut HashSet<AttachmentId>,
    found: &mut Found,
) -> Result<(), StepError> {
    let rows = rows_of(build, store, page).await?;
    let by_id: HashMap<AttachmentId, &Attachment> = rows.iter().map(|row| (row.id, row)).collect();
    let mut diff = StoreDiff::new(rows.iter().map(Into::into));
    let (mut strangers, mut changed, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for file in page {
        found.control = found.control.take().or_else(|| Some(file.store_file_id.clone()));
        match diff
            .meet(&file.file_id, &file.store_file_id)
            .and_then(|id| by_id.get(&id))
        {
            None => strangers.push(file),
            Some(row) => {
                met.insert(row.id);
                if row.missed_at.is_some() {
                    seen.push(row.id);
                }
                if row.state.is_settled() && row.state != file.state && !is_refused(row) {
                    found.unfinished |= file.state == AttachmentState::InProgress;
                    changed.push((*row, file));
                }
            }
        }
    }
    write(build, &changed, &seen).await?;
    found.surplus.extend(of_ours(build, &strangers).await?);
    Ok(())
}

/// What we gave up stays so, whatever becomes of it at the provider: the next build puts it in anew.
fn is_refused(row: &Attachment) -> bool {
    row.state == AttachmentState::Failed && row.error_code.as_deref() != Some(NOT_IN_STORE)
}

async fn write(
    build: &Build<'_>,
    changed: &[(&Attachment, &SeenFile)],
    seen: &[AttachmentId],
) -> Result<(), StepError> {
    if changed.is_empty() && seen.is_empty() {
        return Ok(());
    }
    let mut tx = build.write().await?;
    for (row, file) in changed {
        tracing::warn!(file.id = %row.local_file_id, was = %row.state, is = %file.state, "the provider reports another state than before");
        let reported = file.reported();
        let seen = file.observation(row.chunking_strategy, reported.as_ref());
        attachments::correct(&mut tx, row.id, &seen).await?;
    }
    attachments::clear_missed(&mut tx, seen).await?;
    Ok(tx.commit().await?)
}

/// Those that we made ourselves: only they are ours to take out.
async fn of_ours(build: &Build<'_>, files: &[&SeenFile]) -> Result<Vec<String>, StepError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = files.iter().map(|file| file.file_id.as_str()).collect();
    let mut db = build.context.pool.acquire().await?;
    let made = ownership::list_made(&mut db, &build.index.provider_type, Kind::File, &ids).await?;
    let made: HashSet<String> = made.into_iter().collect();
    let ours = files.iter().filter(|file| made.contains(&file.file_id));
    Ok(ours.map(|file| file.store_file_id.clone()).collect())
}

/// The rows whose files are proven to be gone: two checks, some time apart, and the provider does not find them by their ids.
async fn lost<'a>(
    build: &mut Build<'_>,
    store: &str,
    missing: &[&'a Attachment],
    control: Option<&str>,
) -> Result<Vec<&'a Attachment>, StepError> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let apart = build.observer().apart();
    let left = missing
        .iter()
        .map(|row| row.missed_at.map_or(apart, |at| apart.saturating_sub(age(at))))
        .max();
    if let Some(left) = left.filter(|left| !left.is_zero()) {
        let ids: Vec<_> = missing.iter().map(|row| row.id).collect();
        let mut tx = build.write().await?;
        attachments::mark_missed(&mut tx, &ids).await?;
        tx.commit().await?;
        let files = missing.len();
        return Err(StepError::snooze(
            left,
            format!("the vector store does not show {files} files that were in it: a second check decides"),
        ));
    }
    let answers = presence::of_files(&build.observer(), store, missing, control).await?;
    let (mut lost, mut unknown) = (Vec::new(), 0_usize);
    for (row, (_, answer)) in missing.iter().copied().zip(answers) {
        match answer {
            Direct::Absent => lost.push(row),
            Direct::There(file) => write(build, &changed(row, &file), &[row.id]).await?,
            Direct::Unknown => unknown += 1,
        }
    }
    if unknown > 0 {
        let text = format!(
            "{unknown} files are not in the store's listing, and the provider finds no file by its id"
        );
        tracing::warn!(files = unknown, "{text}");
        build.unverified.push(text);
    }
    Ok(lost)
}

fn changed<'a>(row: &'a Attachment, file: &'a SeenFile) -> Vec<(&'a Attachment, &'a SeenFile)> {
    if row.state == file.state {
        Vec::new()
    } else {
        vec![(row, file)]
    }
}

async fn repair(
    build: &Build<'_>,
    store: &str,
    lost: &[&Attachment],
    surplus: &[String],
) -> Result<Step, StepError> {
    let mut tx = build.write_progress().await?;
    let rounds = builds::find(&mut tx, &build.job_id)
        .await?
        .map_or(0, |build| build.repair_rounds);
    if rounds >= MAX_REPAIR_ROUNDS {
        for row in lost {
            let error = format!("the file left the vector store {rounds} times while it was being built");
            attachments::mark_left(&mut tx, row.id, &error).await?;
        }
        tx.commit().await?;
        if surplus.is_empty() {
            return Ok(Step::Finish);
        }
        return Err(StepError::Fail {
            error: format!(
                "{} files that do not belong to the index came back into its vector store {rounds} times",
                surplus.len()
            ),
        });
    }
    builds::count_repair(&mut tx, &build.job_id).await?;
    let ids: Vec<_> = lost.iter().map(|row| row.id).collect();
    attachments::mark_lost(&mut tx, &ids).await?;
    tx.commit().await?;
    tracing::warn!(
        missing = lost.len(),
        surplus = surplus.len(),
        round = rounds + 1,
        "the vector store does not hold what it should: another round"
    );
    for file in surplus {
        build.check_running()?;
        build.provider.detach_file(store, file).await?;
        tracing::info!(
            external_file_id = file,
            "taken out: it belongs to no file of the index"
        );
    }
    Ok(if lost.is_empty() {
        Step::Verify
    } else {
        Step::AttachFiles
    })
}
