//! One store: first its files (`file`), each dealt with for itself; then, in one transaction under the index's lock, what the
//! whole store means for the index (`plan`).
//!
//! Reads everything of the index. Writes index, links and attachments. Calls list of store files. Safe to repeat because
//! files that are through are known by their findings, and the rest is one transaction.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rag_db::imports::{self, Known, SeenLink};
use rag_db::index_files::Link;
use rag_db::indexes::{self, Index};
use rag_db::syncs::items::{self, Item};
use rag_db::{attachments, builds, index_files, uploads};
use rag_domain::{AttachmentId, DomainId, FileId, FindingKind, IndexId, ItemState, NewLink};
use rag_jobs::index_concurrency_key;
use rag_providers::VectorStore;
use serde_json::json;
use sqlx::MySqlConnection;

use super::file::{self, Files};
use super::plan::{StoreChanges, find};
use super::run::{StoreError, Sync, Totals, WHOLE_RUN, totals_of};
use super::settings;
use crate::observe::is_absent;
use crate::observe::listing::{StoreListing, files_in};
use crate::observe::missing_files::{self, Absent};
use crate::observe::store_file::SeenFile;
use crate::step_error::StepError;

use crate::sync::apply::apply_listing;

/// How often a store is observed again because a build came in between.
const MAX_TRIES: u32 = 3;

/// Where a store belongs.
pub(super) enum StoreOwner {
    Known { id: IndexId, domain: DomainId },
    Unknown,
}

/// What became of a store.
pub(super) enum StoreOutcome {
    Done,
    /// Somebody is at work on the index.
    Busy,
    /// The listing lacks files that were in the store: a second listing, so long from now, decides.
    CheckAgain(Duration),
    /// It is listed, and its files are not: nothing is known.
    Unknown(String),
    /// It is not there any more.
    Vanished,
}

pub(super) async fn run(
    sync: &Sync<'_>,
    files: &Files<'_>,
    item: &Item,
    store: VectorStore,
    owner: StoreOwner,
) -> Result<Result<StoreOutcome, StoreError>, StepError> {
    let mut store = store;
    for _ in 0..MAX_TRIES {
        let mut db = sync.context.pool.acquire().await?;
        let Some(before) = mark(sync, &mut db, &owner).await? else {
            return Ok(Ok(StoreOutcome::Busy));
        };
        drop(db);
        let begun_at = chrono::Utc::now();
        let listed = match files_in(sync.provider.as_ref(), &store, Some(&sync.calls)).await {
            Ok(listed) => listed,
            Err(error) if is_absent(&error) => {
                let asked = sync.provider.get_vector_store(&store.id);
                return match sync.calls.make(asked).await {
                    Err(gone) if is_absent(&gone) => Ok(Ok(StoreOutcome::Vanished)),
                    _ => Ok(Ok(StoreOutcome::Unknown(format!(
                        "its files could not be listed: {error}"
                    )))),
                };
            }
            Err(error) => return Ok(Err(error.into())),
        };
        let listing = StoreListing {
            store,
            files: listed,
            begun_at,
        };
        let left = match &owner {
            StoreOwner::Unknown => HashSet::new(),
            StoreOwner::Known { id, .. } => {
                let mut db = sync.context.pool.acquire().await?;
                let rows = attachments::list(&mut db, *id).await?;
                drop(db);
                match missing_files::judge(&sync.observer(), *id, &listing, &rows).await? {
                    Absent::CheckAgain { after, .. } => return Ok(Ok(StoreOutcome::CheckAgain(after))),
                    Absent::Known { left, .. } => left,
                }
            }
        };
        let domain = match &owner {
            StoreOwner::Known { domain, .. } => domain,
            StoreOwner::Unknown => sync.default_domain(),
        };
        if let Err(error) = files.all(domain, &listing.files).await {
            return Ok(Err(error));
        }
        if conclude(sync, item, &listing, &owner, &before, &left).await? {
            return Ok(Ok(StoreOutcome::Done));
        }
        store = listing.store;
    }
    Ok(Ok(StoreOutcome::Busy))
}

/// By what one sees that a build has been at work between a listing and its writing. `None`: one is.
async fn mark(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    owner: &StoreOwner,
) -> Result<Option<Mark>, StepError> {
    let StoreOwner::Known { id, .. } = owner else {
        return Ok(Some(None));
    };
    let key = index_concurrency_key(*id);
    if sync.context.queue.find_key_holder(db, &key).await?.is_some() {
        return Ok(None);
    }
    let latest = builds::find_latest(db, *id).await?;
    Ok(Some(
        latest.map(|build| (build.job_id, build.finished_at.is_some())),
    ))
}

/// The latest build, and whether it has ended.
type Mark = Option<(String, bool)>;

/// `false`: a build came in between, and the listing is too old to be written.
async fn conclude(
    sync: &Sync<'_>,
    item: &Item,
    listing: &StoreListing,
    owner: &StoreOwner,
    before: &Mark,
    left: &HashSet<AttachmentId>,
) -> Result<bool, StepError> {
    let mut opened = sync.open().await?;
    let tx = &mut opened.tx;
    let index = match owner {
        StoreOwner::Known { id, domain } => {
            let index = indexes::find_for_update(tx, domain, *id).await?;
            match index.filter(|index| index.external_id.as_ref() == Some(&listing.store.id)) {
                Some(index) => Some(index),
                None => return Ok(false),
            }
        }
        StoreOwner::Unknown => None,
    };
    let domain = index
        .as_ref()
        .map_or(sync.default_domain(), |index| &index.domain_id);
    let known = known_files(tx, sync, domain, &listing.files).await?;
    let (rows, links) = match &index {
        Some(index) => (
            attachments::list(tx, index.id).await?,
            index_files::list(tx, index.id).await?,
        ),
        None => (Vec::new(), Vec::new()),
    };
    let changes = StoreChanges::new(
        index.as_ref(),
        listing,
        &known,
        &rows,
        &links,
        left,
        sync.job.strict,
    );

    // What is this index's alone, before the turn: no other transaction of the run waits for these rows.
    found(sync, tx, listing, index.as_ref(), &changes).await?;
    if !sync.job.dry_run {
        write(sync, tx, listing, index.as_ref(), &known, &links, &changes).await?;
    }

    let mut tx = sync.join(opened).await?;
    if mark(sync, &mut tx, owner).await?.as_ref() != Some(before) {
        return Ok(false);
    }
    let run = sync.read_in(&mut tx).await?;
    let totals = totals_of(&run);
    if totals.stopped.is_some() {
        // By another store, meanwhile.
        return Ok(true);
    }
    if let Some(reason) = too_many(sync, listing, &changes, &totals) {
        if !sync.job.dry_run {
            tx.rollback().await?;
            let mut tx = sync.write().await?;
            sync.stop(&mut tx, &reason).await?;
            tx.commit().await?;
            sync.wind_down();
            return Ok(true);
        }
        sync.error(&mut tx, WHOLE_RUN, &reason).await?;
    }
    if !sync.job.dry_run {
        name_copies(sync, &mut tx, listing, &changes).await?;
    }
    let skipped = file::matched_before(sync, &mut tx, domain, &listing.files, &known).await?;
    sync.count_from(&mut tx, &run, 1, |totals| {
        let counts = &mut totals.counts;
        counts.files_kept += skipped;
        counts.files_skipped += skipped;
        counts.indexes_created += u64::from(index.is_none());
        counts.indexes_updated += u64::from(index.is_some() && changes.settings.is_some());
        counts.index_files_created += changes.plan.links.len() as u64;
        counts.index_files_deleted += changes.plan.unlink.len() as u64;
        counts.files_detached += changes.difference.diff.missing.len() as u64;
        totals.files_removed += changes.plan.removed;
        totals.failures_in_a_row = 0;
    })
    .await?;
    let from = [ItemState::Waiting, ItemState::Postponed];
    items::move_on(&mut tx, &sync.job_id, &item.item, &from, ItemState::Done).await?;
    tx.commit().await?;
    Ok(true)
}

/// Why the run stops before this store, if it does.
fn too_many(
    sync: &Sync<'_>,
    listing: &StoreListing,
    changes: &StoreChanges<'_>,
    totals: &Totals,
) -> Option<String> {
    let allowance = sync.deletion_threshold().allowance(totals.files_known);
    let removed = totals.files_removed + changes.plan.removed;
    (changes.plan.removed > 0 && removed > allowance && !sync.job.force).then(|| {
        format!(
            "{removed} of {} files would leave their indexes, more than the {allowance} that may at once: the sync stopped \
             before store {}; force=true goes on",
            totals.files_known, listing.store.id
        )
    })
}

/// for copies of which only the id in the Files API was known.
async fn name_copies(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    listing: &StoreListing,
    changes: &StoreChanges<'_>,
) -> Result<(), StepError> {
    let unnamed = changes.plan.store_file_ids.iter();
    for file in unnamed.filter_map(|at| listing.files.get(*at)) {
        uploads::set_store_file_id(tx, &sync.job.provider_type, &file.file_id, &file.store_file_id).await?;
    }
    Ok(())
}

/// Which of the store's files are ours, in the index's domain.
async fn known_files(
    tx: &mut MySqlConnection,
    sync: &Sync<'_>,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<HashMap<String, Known>, StepError> {
    let mut known = imports::find_known(tx, &sync.job.provider_type, domain, &file::ids(files)).await?;
    if sync.job.dry_run {
        // As it would be if they had been taken over.
        for id in file::would_be_created(sync, tx, domain, files).await? {
            known.insert(id, Known::to_be());
        }
    }
    Ok(known)
}

/// What differs, for the lists of the result.
async fn found(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    listing: &StoreListing,
    index: Option<&Index>,
    changes: &StoreChanges<'_>,
) -> Result<(), StepError> {
    let store = &listing.store.id;
    let Some(index) = index else {
        let detail = json!({"external_id": store, "name": listing.store.name, "files": listing.files.len()});
        return sync.find(tx, FindingKind::StoresExtra, store, &detail).await;
    };
    if let Some((_, fields)) = &changes.settings {
        let detail = json!({"external_id": store, "index_id": index.id, "fields": fields});
        sync.find(tx, FindingKind::SettingsDiffer, store, &detail).await?;
    }
    for row in changes.difference.missing() {
        let subject = format!("{store}/{}", row.external_file_id);
        let detail = json!({
            "external_id": store, "index_id": index.id, "external_file_id": row.external_file_id,
            "file_id": row.local_file_id,
        });
        sync.find(tx, FindingKind::FilesMissing, &subject, &detail)
            .await?;
    }
    for file in changes.difference.unknown() {
        let subject = format!("{store}/{}", file.file_id);
        let detail = json!({"external_id": store, "index_id": index.id, "external_file_id": file.file_id});
        sync.find(tx, FindingKind::FilesExtra, &subject, &detail).await?;
    }
    Ok(())
}

async fn write(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    listing: &StoreListing,
    index: Option<&Index>,
    known: &HashMap<String, Known>,
    links: &[Link],
    changes: &StoreChanges<'_>,
) -> Result<(), StepError> {
    let index = match index {
        Some(index) => index.clone(),
        None => import(sync, tx, listing).await?,
    };
    let linked: HashSet<FileId> = links
        .iter()
        .map(|link| link.file_id)
        .filter(|id| !changes.plan.unlink.contains(id))
        .collect();
    changes.difference.write(tx, &linked).await?;
    // One row of ours for each: which file it is, and what was seen of it.
    let attached: Vec<_> = changes
        .plan
        .attach
        .iter()
        .filter_map(|new| {
            let file = listing.files.get(new.listed)?;
            Some((new, file, find(known, file)?, file.reported()))
        })
        .collect();
    let seen: Vec<_> = attached
        .iter()
        .map(|(new, file, known, strategy)| attachments::SeenAttachment {
            row: attachments::NewAttachment {
                index_id: index.id,
                external_store_id: &listing.store.id,
                local_file_id: new.file_id,
                external_file_id: &file.file_id,
                content_sha256: &known.copy_sha256,
                size_bytes: known.size_bytes,
                chunking_strategy: new.strategy,
            },
            seen: file.observation(new.strategy, strategy.as_ref()),
            attached_at: file.created_at,
        })
        .collect();
    attachments::insert_seen(tx, &seen).await?;
    if !changes.plan.links.is_empty() {
        let seen_link = |link: &NewLink| SeenLink {
            file_id: link.file_id,
            chunking_strategy: link.strategy,
        };
        let links: Vec<_> = changes.plan.links.iter().map(seen_link).collect();
        imports::link(tx, index.id, &links).await?;
    }
    for file in &changes.plan.unlink {
        index_files::delete(tx, index.id, *file).await?;
    }
    let mut index = index;
    if let Some((changes, _)) = &changes.settings {
        indexes::update(tx, &index.domain_id, index.id, changes).await?;
        let before = index;
        index = indexes::get(tx, &before.domain_id, before.id).await?;
        // What was taken over from the store is what the store has.
        if let Some(mut given) = before.pushed_settings.clone() {
            let now = index.store_settings();
            for setting in now.changed_since(&before.store_settings()) {
                given.take(setting, &now);
            }
            let error = index.settings_error.as_deref();
            indexes::set_pushed_settings(tx, index.id, Some(&given), error).await?;
        }
    }
    apply_listing(tx, &index, listing, &changes.difference, 0).await?;
    Ok(())
}

/// A store that nobody of ours has becomes an index.
async fn import(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    listing: &StoreListing,
) -> Result<Index, StepError> {
    let domain = sync.default_domain();
    let new = settings::of_new(&listing.store, domain, &sync.job.provider_type);
    indexes::insert(tx, &new).await?;
    indexes::set_external_id(tx, new.id, &listing.store.id).await?;
    tracing::info!(index.id = %new.id, store = listing.store.id, "a store is taken over as an index");
    Ok(indexes::get(tx, domain, new.id).await?)
}
