//! Asks the provider about one file, with no transaction open.

use futures::StreamExt as _;
use rag_db::files::NewFile;
use rag_db::imports::Known;
use rag_domain::{DomainId, FileId};
use rag_files::{SaveError, Saved};
use rag_providers::{ErrorKind, ProviderError, ProviderFile};
use sha2::{Digest as _, Sha256};

use super::{FAILED, MISSING, UNAVAILABLE, WOULD_BE_CREATED};
use crate::halt::{Halt, chain};
use crate::observe::store_file::SeenFile;
use crate::sync::provider::{LONG_SLICE, Sync, Trouble};

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
pub(super) struct Fetched<'a> {
    pub(super) file: &'a SeenFile,
    pub(super) status: &'static str,
    /// Of the provider's bytes.
    pub(super) sha256: Option<String>,
    pub(super) error: Option<String>,
    /// What the provider says of the file, where that was asked for.
    pub(super) described: Option<ProviderFile>,
    pub(super) ours: Ours,
}

/// The file on our side.
pub(super) enum Ours {
    Known(Known),
    /// Downloaded; its bytes go again unless they are kept.
    New(Box<NewFile>, Saved),
    None,
}

pub(super) async fn run<'a>(
    sync: &Sync<'_>,
    domain: &DomainId,
    file: &'a SeenFile,
    task: Task,
) -> Result<Fetched<'a>, Trouble> {
    sync.check_running(LONG_SLICE)?;
    match task {
        Task::Compare(known) => compare(sync, file, known).await,
        Task::Import(id, again) => import(sync, domain, file, id, again).await,
        Task::Probe => probe(sync, file).await,
    }
}

/// A file that we hold: its bytes here stay as they are, whatever the provider has.
async fn compare<'a>(sync: &Sync<'_>, file: &'a SeenFile, known: Known) -> Result<Fetched<'a>, Trouble> {
    let (status, sha256, error) = match hash(sync, file).await {
        Ok(sha256) if sha256 == known.sha256 => ("matches", Some(sha256), None),
        Ok(sha256) => ("differs", Some(sha256), None),
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
        file,
        status,
        sha256,
        error,
        described,
        ours: Ours::Known(known),
    })
}

/// A file that we do not hold.
async fn import<'a>(
    sync: &Sync<'_>,
    domain: &DomainId,
    file: &'a SeenFile,
    id: FileId,
    begun_before: bool,
) -> Result<Fetched<'a>, Trouble> {
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
        Err(error) => return not_to_be_had(file, error),
    };
    let content = match sync.provider.file_content(&file.file_id).await {
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
    Ok(Fetched {
        file,
        status: "created",
        sha256: Some(saved.sha256.clone()),
        error: None,
        described: Some(described),
        ours: Ours::New(Box::new(new), saved),
    })
}

/// A report: would the file be created? The bytes themselves are not wanted.
async fn probe<'a>(sync: &Sync<'_>, file: &'a SeenFile) -> Result<Fetched<'a>, Trouble> {
    match sync.provider.file_content(&file.file_id).await {
        Ok(_) => Ok(nothing(file, WOULD_BE_CREATED, None)),
        Err(error) => not_to_be_had(file, error),
    }
}

fn nothing<'a>(file: &'a SeenFile, status: &'static str, error: Option<String>) -> Fetched<'a> {
    Fetched {
        file,
        status,
        sha256: None,
        error,
        described: None,
        ours: Ours::None,
    }
}

fn not_to_be_had(file: &SeenFile, error: ProviderError) -> Result<Fetched<'_>, Trouble> {
    let (status, text) = refused(error)?;
    Ok(nothing(file, status, Some(text)))
}

/// What a refusal says of the file; anything else is trouble.
fn refused(error: ProviderError) -> Result<(&'static str, String), Trouble> {
    match error.kind {
        ErrorKind::ContentUnavailable => Ok((UNAVAILABLE, error.to_string())),
        ErrorKind::NotFound => Ok((MISSING, error.to_string())),
        _ => match Trouble::from(error) {
            Trouble::Never(text) => Ok((FAILED, text)),
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

/// What the provider says of the file itself, if anything.
async fn describe(sync: &Sync<'_>, file: &SeenFile) -> Result<Option<ProviderFile>, Trouble> {
    match sync.provider.get_file(&file.file_id).await {
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
fn storage(error: &rag_files::FilesError) -> Halt {
    Halt::Retry {
        error: chain(error),
        after: None,
    }
}

impl From<Halt> for Trouble {
    fn from(halt: Halt) -> Self {
        Self::Run(halt)
    }
}
