//! Writes what came of files, as many as have come together, in one transaction.

use rag_db::imports::{self, Known, SeenCopy};
use rag_db::syncs::findings;
use rag_domain::{DomainId, FindingKind, SyncCounts};
use rag_files::Saved;
use serde_json::{Value, json};
use sqlx::MySqlConnection;

use super::fetch::{Fetched, OnDisk, Ours};
use super::status::{FAILED, MISSING, UNAVAILABLE, WOULD_BE_CREATED, subject};
use crate::observe::store_file::SeenFile;
use crate::step_error::StepError;
use crate::sync::provider::run::Sync;

/// As builds count them.
const CORRUPTIONS: &str = "rag_file_corruptions_total";

pub(super) async fn all(
    sync: &Sync<'_>,
    domain: &DomainId,
    fetched: Vec<Fetched<'_>>,
) -> Result<(), StepError> {
    if fetched.is_empty() {
        return Ok(());
    }
    let mut tx = sync.write().await?;
    let mut counts = SyncCounts::default();
    let (mut results, mut mismatches, mut corrupted) = (Vec::new(), Vec::new(), Vec::new());
    let mut kept: Vec<Saved> = Vec::new();
    for one in fetched {
        let (subject, line) = (subject(one.file, domain), line(&one, domain));
        if one.status == "differs" {
            mismatches.push((subject.clone(), line.clone()));
        }
        if let Some(found) = one.local.as_ref().filter(|local| **local != OnDisk::Intact) {
            metrics::counter!(CORRUPTIONS, "met_by" => "sync", "code" => found.as_str()).increment(1);
            corrupted.push((subject.clone(), line.clone()));
        }
        if let Some(error) = one.error.as_ref().filter(|_| one.status == FAILED) {
            sync.error(&mut tx, &subject, error).await?;
        }
        results.push((subject, line));
        counts.files_unavailable += u64::from(one.status == UNAVAILABLE);
        match &one.ours {
            Ours::Known(known) => {
                counts.files_kept += 1;
                counts.provider_uploads_created += u64::from(known_copy(sync, &mut tx, &one, known).await?);
            }
            Ours::New(new, _) => {
                let described = one.described.as_ref();
                let uploaded_at = described.and_then(|described| described.created_at);
                imports::insert_file(&mut tx, new, &one.file.file_id, uploaded_at).await?;
                let copy = copy(sync, &one, new.id, &new.sha256);
                counts.files_created += 1;
                counts.provider_uploads_created += u64::from(insert_copy(sync, &mut tx, &copy).await?);
            }
            Ours::None if one.status == WOULD_BE_CREATED => {
                counts.files_created += 1;
                counts.provider_uploads_created += 1;
            }
            Ours::None => {}
        }
        if let Ours::New(_, saved) = one.ours {
            kept.push(saved);
        }
    }
    findings::put_many(&mut tx, &sync.job_id, FindingKind::FileResults, &results).await?;
    findings::put_many(
        &mut tx,
        &sync.job_id,
        FindingKind::FilesByteMismatches,
        &mismatches,
    )
    .await?;
    findings::put_many(&mut tx, &sync.job_id, FindingKind::FilesCorrupted, &corrupted).await?;
    sync.count(&mut tx, 0, |totals| {
        let all = &mut totals.counts;
        all.files_kept += counts.files_kept;
        all.files_created += counts.files_created;
        all.files_unavailable += counts.files_unavailable;
        all.provider_uploads_created += counts.provider_uploads_created;
    })
    .await?;
    // Whether the commit took effect may stay unknown: better bytes without a row, which the next claim removes, than a row
    // without bytes.
    for saved in &mut kept {
        saved.keep();
    }
    Ok(tx.commit().await?)
}

/// The copy of a file that we hold, unless its row references it already.
async fn known_copy(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    one: &Fetched<'_>,
    known: &Known,
) -> Result<bool, StepError> {
    if known.upload.is_some() || one.status == MISSING {
        return Ok(false);
    }
    let sha256 = one.sha256.as_deref().unwrap_or(&known.copy_sha256);
    insert_copy(sync, tx, &copy(sync, one, known.file_id, sha256)).await
}

fn copy<'a>(
    sync: &Sync<'_>,
    one: &'a Fetched<'_>,
    file_id: rag_domain::FileId,
    content_sha256: &'a str,
) -> SeenCopy<'a> {
    let (described, id) = (one.described.as_ref(), copy_id(sync, one.file));
    SeenCopy {
        file_id,
        external_file_id: id,
        files_api_id: (id != one.file.file_id).then_some(one.file.file_id.as_str()),
        uploaded_at: described.and_then(|described| described.created_at),
        content_sha256,
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

/// A report writes none, and counts what would be written.
async fn insert_copy(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    copy: &SeenCopy<'_>,
) -> Result<bool, StepError> {
    if sync.job.dry_run {
        return Ok(true);
    }
    Ok(imports::insert_copy(tx, &sync.job.provider_type, copy).await?)
}

/// A line of `file_results`.
fn line(one: &Fetched<'_>, domain: &DomainId) -> Value {
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
