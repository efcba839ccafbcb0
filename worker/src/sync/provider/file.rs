//! The files of a store, each dealt with once in a run and domain: one that we hold is compared with the provider's
//! bytes, which are hashed as they come and kept nowhere; one that we do not hold is downloaded and becomes a file of ours.
//!
//! Reads copies and findings. Writes files, copies and findings. Calls get and content of files. Safe to repeat because what
//! is through has its finding, in the transaction that wrote it; and a file that is about to be downloaded has one too, with
//! the id that it will get, so that what a killed worker left on disk under that id is removed.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use rag_db::files::NewFile;
use rag_db::imports::{self, Known, SeenCopy};
use rag_db::syncs::findings;
use rag_domain::{DomainId, FileId, FindingKind};
use rag_files::SaveError;
use rag_providers::{ErrorKind, ProviderError, ProviderFile};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::MySqlConnection;

use super::plan::find;
use super::{LONG_SLICE, Sync, Trouble};
use crate::halt::{Halt, chain};
use crate::sync::look::SeenFile;

/// Files that are looked up together.
const CHUNK: usize = 100;
/// As many characters as the column holds.
const NAME_CHARS: usize = 512;

/// `status` of a file that is about to be downloaded.
const PENDING: &str = "pending";
/// … that a sync would take over.
const WOULD_BE_CREATED: &str = "would_be_created";

/// Both ids of every file.
pub(super) fn ids(files: &[SeenFile]) -> Vec<&str> {
    files
        .iter()
        .flat_map(|file| std::iter::once(file.file_id.as_str()).chain(file.other_store_id()))
        .collect()
}

/// Deals with all of them that the run has not dealt with.
pub(super) async fn all(
    sync: &Sync<'_>,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<Result<(), Trouble>, Halt> {
    for chunk in files.chunks(CHUNK) {
        sync.check_running(LONG_SLICE)?;
        let work = plan(sync, domain, chunk).await?;
        let work = futures::stream::iter(work.into_iter().map(Ok));
        let result = work
            .try_for_each_concurrent(sync.context.sync.file_concurrency, |(file, task)| async move {
                sync.check_running(LONG_SLICE)?;
                match task {
                    Task::Compare(known) => compare(sync, domain, file, &known).await,
                    Task::Import(id, again) => import(sync, domain, file, id, again).await,
                    Task::Probe => probe(sync, domain, file).await,
                }
            })
            .await;
        match result {
            Err(Trouble::Run(halt)) => return Err(halt),
            Err(trouble) => return Ok(Err(trouble)),
            Ok(()) => {}
        }
    }
    Ok(Ok(()))
}

/// Those that a report found that they would be created.
pub(super) async fn would_be_created(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<Vec<String>, Halt> {
    let results = results(sync, db, domain, files).await?;
    let would = |file: &&SeenFile| {
        let result = results.get(&subject(file, domain));
        result.is_some_and(|result| result["status"] == WOULD_BE_CREATED)
    };
    Ok(files
        .iter()
        .filter(would)
        .map(|file| file.file_id.clone())
        .collect())
}

enum Task {
    Compare(Known),
    /// Under this id; `true`: an earlier claim may have begun it.
    Import(FileId, bool),
    /// A report asks only whether the bytes are to be had.
    Probe,
}

async fn plan<'a>(
    sync: &Sync<'_>,
    domain: &DomainId,
    files: &'a [SeenFile],
) -> Result<Vec<(&'a SeenFile, Task)>, Halt> {
    let mut db = sync.context.pool.acquire().await?;
    let results = results(sync, &mut db, domain, files).await?;
    let known = imports::find_known(&mut db, &sync.job.provider_type, domain, &ids(files)).await?;
    let retired = imports::find_retired(&mut db, &sync.job.provider_type, &ids(files)).await?;
    drop(db);
    let (mut work, mut reserved) = (Vec::new(), Vec::new());
    for file in files {
        let subject = subject(file, domain);
        let result = results.get(&subject);
        let pending = result.filter(|result| result["status"] == PENDING);
        if result.is_some() && pending.is_none() {
            continue;
        }
        let ours = find(&known, file);
        if ours.is_some_and(|ours| ours.is_deleted) || (ours.is_none() && retired.contains(&file.file_id)) {
            // We are about to delete it, and do not take it over for that.
            continue;
        }
        let begun = pending.and_then(|result| result["file_id"].as_str()?.parse().ok());
        let task = match (ours, begun) {
            (Some(known), _) => Task::Compare(known.clone()),
            (None, _) if sync.job.dry_run => Task::Probe,
            (None, Some(id)) => Task::Import(id, true),
            (None, None) => {
                let id = FileId::new();
                reserved.push((subject, json!({"status": PENDING, "file_id": id})));
                Task::Import(id, false)
            }
        };
        work.push((file, task));
    }
    if !reserved.is_empty() {
        let mut tx = sync.write().await?;
        findings::put_many(&mut tx, &sync.job_id, FindingKind::FileResults, &reserved).await?;
        tx.commit().await?;
    }
    Ok(work)
}

async fn results(
    sync: &Sync<'_>,
    db: &mut MySqlConnection,
    domain: &DomainId,
    files: &[SeenFile],
) -> Result<HashMap<String, Value>, Halt> {
    let subjects: Vec<String> = files.iter().map(|file| subject(file, domain)).collect();
    let found = findings::find_many(db, &sync.job_id, FindingKind::FileResults, &subjects).await?;
    Ok(found
        .into_iter()
        .map(|finding| (finding.subject, finding.detail))
        .collect())
}

/// A file of the provider may serve several domains, and is another file of ours in each.
fn subject(file: &SeenFile, domain: &DomainId) -> String {
    format!("{}@{domain}", file.file_id)
}

/// What became of one file.
struct Outcome<'a> {
    status: &'a str,
    file_id: Option<FileId>,
    local_sha256: Option<&'a str>,
    provider_sha256: Option<&'a str>,
    error: Option<&'a str>,
}

impl Outcome<'_> {
    fn line(&self, file: &SeenFile, domain: &DomainId) -> Value {
        let mut line = json!({
            "external_file_id": file.file_id, "domain_id": domain, "file_id": self.file_id, "status": self.status,
        });
        let more = [
            ("local_sha256", self.local_sha256),
            ("provider_sha256", self.provider_sha256),
            ("error", self.error),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                line[name] = json!(value);
            }
        }
        line
    }
}

async fn record(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    domain: &DomainId,
    file: &SeenFile,
    outcome: &Outcome<'_>,
) -> Result<(), Halt> {
    let (subject, line) = (subject(file, domain), outcome.line(file, domain));
    sync.find(tx, FindingKind::FileResults, &subject, &line).await?;
    if outcome.status == "differs" {
        sync.find(tx, FindingKind::FilesByteMismatches, &subject, &line)
            .await?;
    }
    if let Some(error) = outcome.error.filter(|_| outcome.status == "failed") {
        sync.error(tx, &subject, error).await?;
    }
    Ok(())
}

/// A file that we hold: its bytes here stay as they are, whatever the provider has.
async fn compare(sync: &Sync<'_>, domain: &DomainId, file: &SeenFile, known: &Known) -> Result<(), Trouble> {
    let hashed = hash(sync, file).await;
    let (status, there, error) = match hashed {
        Ok(there) if there == known.sha256 => ("matches", Some(there), None),
        Ok(there) => ("differs", Some(there), None),
        Err(error) => {
            let (status, text) = refused(error)?;
            (status, None, Some(text))
        }
    };
    let copy = if known.upload.is_none() && status != "missing" {
        describe(sync, file).await?
    } else {
        None
    };
    let mut tx = sync.write().await?;
    let mut created = false;
    if let Some(described) = &copy {
        let raw = described.as_ref().map(|described| &described.raw);
        let seen = SeenCopy {
            file_id: known.file_id,
            external_file_id: copy_id(sync, file),
            files_api_id: other_api_id(sync, file),
            uploaded_at: described.as_ref().and_then(|described| described.created_at),
            content_sha256: there.as_deref().unwrap_or(&known.copy_sha256),
            raw,
        };
        created = sync.job.dry_run || insert_copy(sync, &mut tx, &seen).await?;
    }
    let outcome = Outcome {
        status,
        file_id: Some(known.file_id),
        local_sha256: Some(&known.sha256),
        provider_sha256: there.as_deref(),
        error: error.as_deref(),
    };
    record(sync, &mut tx, domain, file, &outcome).await?;
    sync.count(&mut tx, 0, |totals| {
        let counts = &mut totals.counts;
        counts.files_kept += 1;
        counts.files_unavailable += u64::from(status == "content_unavailable");
        counts.provider_uploads_created += u64::from(created);
    })
    .await?;
    Ok(commit(tx).await?)
}

/// A file that we do not hold.
async fn import(
    sync: &Sync<'_>,
    domain: &DomainId,
    file: &SeenFile,
    id: FileId,
    begun_before: bool,
) -> Result<(), Trouble> {
    if begun_before {
        let removed = sync
            .context
            .files
            .delete_versions(domain.as_str(), id.into())
            .await;
        let removed = removed.map_err(|error| Trouble::Run(storage(&error)))?;
        tracing::debug!(file.id = %id, removed, "an earlier download was cut off");
    }
    let described = match sync.provider.get_file(&file.file_id).await {
        Ok(described) => described,
        Err(error) => return not_imported(sync, domain, file, error).await,
    };
    let content = match sync.provider.file_content(&file.file_id).await {
        Ok(content) => content,
        Err(error) => return not_imported(sync, domain, file, error).await,
    };
    let name = file_name(&described);
    let most = sync.provider.capabilities().max_file_bytes;
    let saved = sync
        .context
        .files
        .save(domain.as_str(), id.into(), &name, content.stream, most)
        .await;
    let mut saved = match saved {
        Ok(saved) => saved,
        Err(SaveError::Source(error)) => return not_imported(sync, domain, file, error).await,
        Err(SaveError::TooLarge { limit }) => {
            let text = format!("the file has more than {limit} bytes");
            return failed(sync, domain, file, &text).await;
        }
        Err(SaveError::Files(error)) => return Err(Trouble::Run(storage(&error))),
    };
    let new = NewFile {
        id,
        domain_id: domain.clone(),
        file_type: mime_guess::from_path(&name).first_or_octet_stream().to_string(),
        file_name: name,
        size_bytes: saved.size_bytes,
        sha256: saved.sha256.clone(),
        local_path: saved.relative_path.clone(),
        tags: None,
        notes: None,
        chunking_strategy: None,
    };
    let copy = SeenCopy {
        file_id: id,
        external_file_id: copy_id(sync, file),
        files_api_id: other_api_id(sync, file),
        uploaded_at: described.created_at,
        content_sha256: &saved.sha256,
        raw: Some(&described.raw),
    };
    let mut tx = sync.write().await?;
    write(sync, &mut tx, domain, file, &new, &copy).await?;
    // Whether the commit took effect may stay unknown: better bytes without a row, which the next claim removes, than a row
    // without bytes.
    saved.keep();
    Ok(commit(tx).await?)
}

async fn write(
    sync: &Sync<'_>,
    tx: &mut MySqlConnection,
    domain: &DomainId,
    file: &SeenFile,
    new: &NewFile,
    copy: &SeenCopy<'_>,
) -> Result<(), Halt> {
    imports::insert_file(tx, new, &file.file_id, copy.uploaded_at).await?;
    let created = insert_copy(sync, tx, copy).await?;
    let outcome = Outcome {
        status: "created",
        file_id: Some(new.id),
        local_sha256: None,
        provider_sha256: Some(copy.content_sha256),
        error: None,
    };
    record(sync, tx, domain, file, &outcome).await?;
    sync.count(tx, 0, |totals| {
        totals.counts.files_created += 1;
        totals.counts.provider_uploads_created += u64::from(created);
    })
    .await?;
    Ok(())
}

async fn insert_copy(sync: &Sync<'_>, tx: &mut MySqlConnection, copy: &SeenCopy<'_>) -> Result<bool, Halt> {
    Ok(imports::insert_copy(tx, &sync.job.provider_type, copy).await?)
}

/// A report: would the file be created?
async fn probe(sync: &Sync<'_>, domain: &DomainId, file: &SeenFile) -> Result<(), Trouble> {
    match sync.provider.file_content(&file.file_id).await {
        // The bytes themselves are not wanted.
        Ok(content) => drop(content),
        Err(error) => return not_imported(sync, domain, file, error).await,
    }
    let mut tx = sync.write().await?;
    let outcome = Outcome {
        status: WOULD_BE_CREATED,
        file_id: None,
        local_sha256: None,
        provider_sha256: None,
        error: None,
    };
    record(sync, &mut tx, domain, file, &outcome).await?;
    sync.count(&mut tx, 0, |totals| {
        totals.counts.files_created += 1;
        totals.counts.provider_uploads_created += 1;
    })
    .await?;
    Ok(commit(tx).await?)
}

async fn not_imported(
    sync: &Sync<'_>,
    domain: &DomainId,
    file: &SeenFile,
    error: ProviderError,
) -> Result<(), Trouble> {
    let (status, text) = refused(error)?;
    let mut tx = sync.write().await?;
    let outcome = Outcome {
        status,
        file_id: None,
        local_sha256: None,
        provider_sha256: None,
        error: Some(&text),
    };
    record(sync, &mut tx, domain, file, &outcome).await?;
    sync.count(&mut tx, 0, |totals| {
        totals.counts.files_unavailable += u64::from(status == "content_unavailable");
    })
    .await?;
    Ok(commit(tx).await?)
}

async fn failed(sync: &Sync<'_>, domain: &DomainId, file: &SeenFile, text: &str) -> Result<(), Trouble> {
    let mut tx = sync.write().await?;
    let outcome = Outcome {
        status: "failed",
        file_id: None,
        local_sha256: None,
        provider_sha256: None,
        error: Some(text),
    };
    record(sync, &mut tx, domain, file, &outcome).await?;
    Ok(commit(tx).await?)
}

/// What a refusal says of the file; anything else is trouble.
fn refused(error: ProviderError) -> Result<(&'static str, String), Trouble> {
    match error.kind {
        ErrorKind::ContentUnavailable => Ok(("content_unavailable", error.to_string())),
        // It hangs in the store, but is not in the Files API any more.
        ErrorKind::NotFound => Ok(("missing", error.to_string())),
        _ => match Trouble::from(error) {
            Trouble::Never(text) => Ok(("failed", text)),
            trouble => Err(trouble),
        },
    }
}

/// Of the provider's bytes, as they come.
async fn hash(sync: &Sync<'_>, file: &SeenFile) -> Result<String, ProviderError> {
    let mut content = sync.provider.file_content(&file.file_id).await?;
    let mut hasher = Sha256::new();
    while let Some(piece) = content.stream.next().await {
        hasher.update(&piece?);
    }
    Ok(hex::encode(hasher.finalize()))
}

/// What the provider says of the file itself; an inner `None`: nothing.
async fn describe(sync: &Sync<'_>, file: &SeenFile) -> Result<Option<Option<ProviderFile>>, Trouble> {
    match sync.provider.get_file(&file.file_id).await {
        Ok(described) => Ok(Some(Some(described))),
        Err(error) => refused(error).map(|_| Some(None)),
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

fn other_api_id<'a>(sync: &Sync<'_>, file: &'a SeenFile) -> Option<&'a str> {
    (copy_id(sync, file) != file.file_id).then_some(file.file_id.as_str())
}

/// The provider's name for it, else its id.
fn file_name(described: &ProviderFile) -> String {
    let name: String = described
        .file_name
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARS)
        .collect();
    let name = name.trim();
    if name.is_empty() {
        described.id.clone()
    } else {
        name.to_owned()
    }
}

/// Our own storage: no fault of the file's.
fn storage(error: &rag_files::FilesError) -> Halt {
    Halt::Retry {
        error: chain(error),
        after: None,
    }
}

async fn commit(tx: sqlx::Transaction<'static, sqlx::MySql>) -> Result<(), Halt> {
    Ok(tx.commit().await?)
}

impl From<Halt> for Trouble {
    fn from(halt: Halt) -> Self {
        Self::Run(halt)
    }
}
