//! Writes what came of files, as many as have come together, in one transaction; and, with the end of a store, which of its files
//! were not compared again.

use rag_db::imports::{self, ImportedFile, Known, SeenCopy};
use rag_db::syncs::findings;
use rag_db::uploads::{self, FoundEqual};
use rag_domain::{DomainId, FileId, FindingKind, SyncCounts};
use serde_json::{Value, json};
use sqlx::MySqlConnection;

use super::fetch::{Fetched, OnDisk, Ours};
use super::status::{
    DIFFERS, FAILED, MATCHED_BEFORE, MATCHES, MISSING, UNAVAILABLE, WOULD_BE_CREATED, subject,
};
use crate::observe::store_file::SeenFile;
use crate::step_error::StepError;
use crate::sync::provider::run::Sync;

/// Lines that are made together.
const MANY: usize = 512;

/// As builds count them.
const CORRUPTIONS: &str = "rag_file_corruptions_total";

/// A file with what came of it, for the domain whose file it is.
pub(super) struct Arrival {
    pub(super) domain: DomainId,
    pub(super) fetched: Fetched,
}

/// Writes all of them, in the caller's transaction; the caller commits right after it. What was downloaded stays on disk from
/// now on.
pub(super) async fn all(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    arrivals: Vec<Arrival>,
) -> Result<(), StepError> {
    let mut counts = SyncCounts::default();
    let (mut results, mut mismatches, mut corrupted) = (Vec::new(), Vec::new(), Vec::new());
    for Arrival { domain, fetched: one } in &arrivals {
        let (subject, line) = (subject(&one.file, domain), line(one, domain));
        if one.status == DIFFERS {
            mismatches.push((subject.clone(), line.clone()));
        }
        if let Some(found) = one.local.as_ref().filter(|local| **local != OnDisk::Intact) {
            metrics::counter!(CORRUPTIONS, "met_by" => "sync", "code" => found.as_str()).increment(1);
            corrupted.push((subject.clone(), line.clone()));
        }
        if let Some(error) = one.error.as_ref().filter(|_| one.status == FAILED) {
            sync.error(tx, &subject, error).await?;
        }
        results.push((subject, line));
        counts.files_unavailable += u64::from(one.status == UNAVAILABLE);
        match &one.ours {
            Ours::Known(known) => {
                counts.files_kept += 1;
                counts.files_compared += u64::from(matches!(one.status, MATCHES | DIFFERS));
                counts.provider_uploads_created += u64::from(known_copy(sync, tx, one, known).await?);
            }
            Ours::New(..) => counts.files_created += 1,
            Ours::None if one.status == WOULD_BE_CREATED => {
                counts.files_created += 1;
                counts.provider_uploads_created += 1;
            }
            Ours::None => {}
        }
    }
    counts.provider_uploads_created += new_files(sync, tx, &arrivals).await?;
    compared(sync, tx, &arrivals).await?;
    for (kind, found) in [
        (FindingKind::FileResults, &results),
        (FindingKind::FilesByteMismatches, &mismatches),
        (FindingKind::FilesCorrupted, &corrupted),
    ] {
        findings::put_many(tx, &sync.job_id, kind, found).await?;
    }
    sync.count(tx, 0, |totals| {
        let all = &mut totals.counts;
        all.files_kept += counts.files_kept;
        all.files_compared += counts.files_compared;
        all.files_created += counts.files_created;
        all.files_unavailable += counts.files_unavailable;
        all.provider_uploads_created += counts.provider_uploads_created;
    })
    .await?;
    // Whether the commit took effect may stay unknown: better bytes without a row, which the next claim removes, than a row
    // without bytes.
    for arrival in arrivals {
        if let Ours::New(_, mut saved) = arrival.fetched.ours {
            saved.keep();
        }
    }
    Ok(())
}

/// The rows of what was downloaded. Answers how many copies were written down.
async fn new_files(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    arrivals: &[Arrival],
) -> Result<u64, StepError> {
    let new = arrivals.iter().filter_map(|arrival| match &arrival.fetched.ours {
        Ours::New(new, _) => Some((&arrival.fetched, new.as_ref())),
        _ => None,
    });
    let (files, copies): (Vec<_>, Vec<_>) = new
        .map(|(one, file)| {
            let imported = ImportedFile {
                file,
                external_file_id: &one.file.file_id,
                external_uploaded_at: one.described.as_ref().and_then(|described| described.created_at),
            };
            (imported, copy(sync, one, file.id, &file.sha256, true))
        })
        .unzip();
    imports::insert_files(tx, &files).await?;
    Ok(imports::insert_copies(tx, &sync.job.provider_type, &copies).await?)
}

/// Which copies of files that we hold are equal to them, and which are not any more. A report writes nothing of it.
async fn compared(sync: &Sync<'_>, tx: &mut MySqlConnection, arrivals: &[Arrival]) -> Result<(), StepError> {
    if sync.job.dry_run {
        return Ok(());
    }
    let (mut equal, mut unequal) = (Vec::new(), Vec::new());
    for one in arrivals.iter().map(|arrival| &arrival.fetched) {
        let Ours::Known(known) = &one.ours else { continue };
        let is_marked = known.was_found_equal(&one.file.file_id);
        match &known.upload {
            Some(external_file_id) if is_equal(one) && !is_marked => equal.push(FoundEqual {
                file: known.file_id,
                external_file_id,
                files_api_id: &one.file.file_id,
                sha256: &known.sha256,
            }),
            Some(_) if one.sha256.is_some() && !is_equal(one) && known.compared.is_some() => {
                unequal.push(known.file_id);
            }
            _ => {}
        }
    }
    let provider = &sync.job.provider_type;
    uploads::mark_equal(tx, provider, &equal).await?;
    Ok(uploads::clear_equal(tx, provider, &unequal).await?)
}

/// The provider's bytes are those on disk, and those are the ones of the row.
fn is_equal(one: &Fetched) -> bool {
    one.status == MATCHES && one.local == Some(OnDisk::Intact)
}

/// The copy of a file that we hold, unless its row references it already.
async fn known_copy(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    one: &Fetched,
    known: &Known,
) -> Result<bool, StepError> {
    if known.upload.is_some() || one.status == MISSING {
        return Ok(false);
    }
    // A report writes none, and counts what would be written.
    if sync.job.dry_run {
        return Ok(true);
    }
    let sha256 = one.sha256.as_deref().unwrap_or(&known.copy_sha256);
    let copy = copy(sync, one, known.file_id, sha256, is_equal(one));
    Ok(imports::insert_copy(tx, &sync.job.provider_type, &copy).await?)
}

fn copy<'a>(
    sync: &Sync<'_>,
    one: &'a Fetched,
    file_id: FileId,
    content_sha256: &'a str,
    is_compared: bool,
) -> SeenCopy<'a> {
    let (described, id) = (one.described.as_ref(), copy_id(sync, &one.file));
    SeenCopy {
        file_id,
        external_file_id: id,
        files_api_id: (id != one.file.file_id).then_some(one.file.file_id.as_str()),
        uploaded_at: described.and_then(|described| described.created_at),
        content_sha256,
        is_compared,
        raw: described.map(|described| &described.raw),
    }
}

/// the id within the store, where the provider has another one there.
fn copy_id<'a>(sync: &Sync<'_>, file: &'a SeenFile) -> &'a str {
    if sync.provider.capabilities().external_file_id_is_store_file {
        &file.store_file_id
    } else {
        &file.file_id
    }
}

/// A line of `file_results`.
fn line(one: &Fetched, domain: &DomainId) -> Value {
    let (file_id, recorded) = match &one.ours {
        Ours::Known(known) => (Some(known.file_id), Some(known.sha256.as_str())),
        Ours::New(new, _) => (Some(new.id), None),
        Ours::None => (None, None),
    };
    let local = one.local.as_ref();
    let local_sha256 = recorded.and_then(|recorded| local?.sha256(recorded));
    let mut line = json!({
        "external_file_id": one.file.file_id, "domain_id": domain, "file_id": file_id, "status": one.status,
    });
    let more = [
        ("local", local.map(OnDisk::as_str)),
        ("local_sha256", local_sha256),
        ("recorded_sha256", recorded),
        ("provider_sha256", one.sha256.as_deref()),
        ("error", one.error.as_deref()),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            line[name] = json!(value);
        }
    }
    line
}

/// The lines of files that were left out because they were found equal before. Answers how many had none yet.
pub(super) async fn matched_before(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    domain: &DomainId,
    files: &[(&SeenFile, &Known)],
) -> Result<u64, StepError> {
    let mut added = 0;
    for chunk in files.chunks(MANY) {
        let lines: Vec<_> = chunk
            .iter()
            .map(|(file, known)| {
                let line = json!({
                    "external_file_id": file.file_id, "domain_id": domain, "file_id": known.file_id,
                    "status": MATCHED_BEFORE, "recorded_sha256": known.sha256,
                });
                (subject(file, domain), line)
            })
            .collect();
        added += findings::put_missing(tx, &sync.job_id, FindingKind::FileResults, &lines).await?;
    }
    Ok(added)
}
