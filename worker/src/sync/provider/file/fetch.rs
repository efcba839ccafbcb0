//! Asks the provider about one file, with no transaction open.

use futures::StreamExt as _;
use rag_db::files::NewFile;
use rag_db::imports::Known;
use rag_domain::{DomainId, FileId};
use rag_files::{FilesError, SaveError, Saved};
use rag_providers::{ErrorKind, ProviderError, ProviderFile};
use sha2::{Digest as _, Sha256};

use super::status::{DIFFERS, FAILED, LOCAL_MISSING, MATCHES, MISSING, UNAVAILABLE, WOULD_BE_CREATED};
use crate::observe::store_file::SeenFile;
use crate::step_error::{StepError, chain};
use crate::sync::provider::run::{LONG_SLICE, StoreError, Sync};

/// As many characters as the column holds.
const NAME_CHARS: usize = 512;

/// What is to be done about a file.
pub(super) enum Task {
    Compare(Known),
    /// Under this id; `true`: an earlier claim may have begun it.
    Import(FileId, bool),
    /// A report asks only whether the bytes are to be had.
    Probe,
}

/// What came of it.
pub(super) struct Fetched {
    pub(super) file: SeenFile,
    pub(super) status: &'static str,
    /// Of the provider's bytes.
    pub(super) sha256: Option<String>,
    /// Of a file that we hold: what lies on disk.
    pub(super) local: Option<OnDisk>,
    pub(super) error: Option<String>,
    /// What the provider says of the file, where that was asked for.
    pub(super) described: Option<ProviderFile>,
    pub(super) ours: Ours,
}

/// A file's bytes on our side, held against its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnDisk {
    /// As the row says.
    Intact,
    /// Other bytes, with this hash.
    Corrupted(String),
    /// None, though the folder of file contents is there and can be read.
    Missing,
}

impl OnDisk {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Corrupted(_) => "corrupted",
            Self::Missing => "missing",
        }
    }

    /// The hash of what lies there, if anything does.
    pub(super) fn sha256<'a>(&'a self, recorded: &'a str) -> Option<&'a str> {
        match self {
            Self::Intact => Some(recorded),
            Self::Corrupted(found) => Some(found),
            Self::Missing => None,
        }
    }
}

/// The file on our side.
pub(super) enum Ours {
    Known(Known),
    /// Downloaded; its bytes go again unless they are kept.
    New(Box<NewFile>, Saved),
    None,
}

pub(super) async fn run(
    sync: &Sync<'_>,
    domain: &DomainId,
    file: &SeenFile,
    task: Task,
) -> Result<Fetched, StoreError> {
    sync.check_running(LONG_SLICE)?;
    match task {
        Task::Compare(known) => compare(sync, file, known).await,
        Task::Import(id, again) => import(sync, domain, file, id, again).await,
        Task::Probe => probe(sync, file).await,
    }
}

/// A file that we hold: its bytes here stay as they are, whatever the provider has. The bytes on disk are what is
/// compared; whether they are still those of the row is said beside it.
async fn compare(sync: &Sync<'_>, file: &SeenFile, known: Known) -> Result<Fetched, StoreError> {
    let local = on_disk(sync, &known).await?;
    let (status, sha256, error) = match hash(sync, file).await {
        Ok(sha256) => match local.sha256(&known.sha256) {
            None => (LOCAL_MISSING, Some(sha256), None),
            Some(own) if own == sha256 => (MATCHES, Some(sha256), None),
            Some(_) => (DIFFERS, Some(sha256), None),
        },
        Err(error) => {
            let (status, text) = refused(error)?;
            (status, None, Some(text))
        }
    };
    let described = if known.upload.is_none() && status != MISSING {
        describe(sync, file).await?
    } else {
        None
    };
    Ok(Fetched {
        file: file.clone(),
        status,
        sha256,
        error,
        described,
        local: Some(local),
        ours: Ours::Known(known),
    })
}

async fn on_disk(sync: &Sync<'_>, known: &Known) -> Result<OnDisk, StoreError> {
    let files = &sync.context.files;
    // It is never closed.
    let _permit = sync.disk.acquire().await.ok();
    match files.sha256(&known.local_path).await {
        Ok(found) if found == known.sha256 => Ok(OnDisk::Intact),
        Ok(found) => Ok(OnDisk::Corrupted(found)),
        Err(FilesError::NotFound(_) | FilesError::InvalidPath(_)) => Ok(OnDisk::Missing),
        Err(error) => Err(StoreError::StopsRun(StepError::storage(files, &error))),
    }
}

/// A file that we do not hold.
async fn import(
    sync: &Sync<'_>,
    domain: &DomainId,
    file: &SeenFile,
    id: FileId,
    begun_before: bool,
) -> Result<Fetched, StoreError> {
    if begun_before {
        let removed = sync
            .context
            .files
            .delete_versions(domain.as_str(), id.into())
            .await;
        let removed = removed.map_err(|error| StoreError::StopsRun(storage(sync, &error)))?;
        tracing::debug!(file.id = %id, removed, "an earlier download was cut off");
    }
    // One turn for all of it, until the bytes are on disk: the first files are through before the last ones are asked for.
    let mut turn = sync.calls.turn().await;
    let described = match turn.make(sync.provider.get_file(&file.file_id)).await {
        Ok(described) => described,
        Err(error) => return not_to_be_had(file, error),
    };
    let content = match turn.make(sync.provider.file_content(&file.file_id)).await {
        Ok(content) => content,
        Err(error) => return not_to_be_had(file, error),
    };
    let name = file_name(&described);
    let most = sync.provider.capabilities().max_file_bytes;
    let saved = sync
        .context
        .files
        .save(domain.as_str(), id.into(), &name, content.stream, most)
        .await;
    let saved = match saved {
        Ok(saved) => saved,
        Err(SaveError::Source(error)) => return not_to_be_had(file, error),
        Err(SaveError::TooLarge { limit }) => {
            let text = format!("the file has more than {limit} bytes");
            return Ok(nothing(file, FAILED, Some(text)));
        }
        Err(SaveError::Files(error)) => return Err(StoreError::StopsRun(storage(sync, &error))),
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
    Ok(Fetched {
        file: file.clone(),
        status: "created",
        sha256: Some(saved.sha256.clone()),
        error: None,
        described: Some(described),
        local: None,
        ours: Ours::New(Box::new(new), saved),
    })
}

/// A report: would the file be created? The bytes themselves are not wanted.
async fn probe(sync: &Sync<'_>, file: &SeenFile) -> Result<Fetched, StoreError> {
    match sync.calls.make(sync.provider.file_content(&file.file_id)).await {
        Ok(_) => Ok(nothing(file, WOULD_BE_CREATED, None)),
        Err(error) => not_to_be_had(file, error),
    }
}

fn nothing(file: &SeenFile, status: &'static str, error: Option<String>) -> Fetched {
    Fetched {
        file: file.clone(),
        status,
        sha256: None,
        error,
        described: None,
        local: None,
        ours: Ours::None,
    }
}

fn not_to_be_had(file: &SeenFile, error: ProviderError) -> Result<Fetched, StoreError> {
    let (status, text) = refused(error)?;
    Ok(nothing(file, status, Some(text)))
}

/// What a refusal says of the file; anything else is an error.
fn refused(error: ProviderError) -> Result<(&'static str, String), StoreError> {
    match error.kind {
        ErrorKind::ContentUnavailable => Ok((UNAVAILABLE, error.to_string())),
        ErrorKind::NotFound => Ok((MISSING, error.to_string())),
        _ => match StoreError::from(error) {
            StoreError::Permanent(text) => Ok((FAILED, text)),
            other => Err(other),
        },
    }
}

/// Of the provider's bytes, as they come.
async fn hash(sync: &Sync<'_>, file: &SeenFile) -> Result<String, ProviderError> {
    let mut turn = sync.calls.turn().await;
    let mut content = turn.make(sync.provider.file_content(&file.file_id)).await?;
    let mut hasher = Sha256::new();
    while let Some(piece) = content.stream.next().await {
        hasher.update(&piece?);
    }
    Ok(hex::encode(hasher.finalize()))
}

/// What the provider says of the file itself, if anything.
async fn describe(sync: &Sync<'_>, file: &SeenFile) -> Result<Option<ProviderFile>, StoreError> {
    match sync.calls.make(sync.provider.get_file(&file.file_id)).await {
        Ok(described) => Ok(Some(described)),
        Err(error) => refused(error).map(|_| None),
    }
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
fn storage(sync: &Sync<'_>, error: &FilesError) -> StepError {
    match error {
        FilesError::NotMounted(_) => StepError::storage(&sync.context.files, error),
        // A full disk, say: a pause is not likely to help.
        _ => StepError::Retry {
            error: chain(error),
            after: None,
        },
    }
}
