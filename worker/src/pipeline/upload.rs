//! One file's copy at the provider: never twice for the same content, except once more for each answer that was lost,
//! and uploaded once when two workers want it at once.
//!
//! What goes up is held against the hash of the file's row on the way, so that a copy is what its row says. Contents that are
//! lost, or are other bytes, are the file's failure. Contents that can't be read here are not: the job waits, for another
//! worker perhaps.
//!
//! Reads the copy's row and the intents. Writes both. Calls create of files; on an exclusive account also list and content,
//! after an upload that was not heard of (`proof`). Safe to repeat because the intent is written first and goes in the
//! transaction that records the outcome.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rag_db::composition::Member;
use rag_db::intents::{self, Content, Declared, Intent, NewIntent, Operation};
use rag_db::traces::{self, Kind};
use rag_db::{DbError, files, uploads};
use rag_domain::UploadStatus;
use rag_files::{FileStore, FilesError};
use rag_providers::{
    ByteStream, Disposition, Effect, ErrorKind, FileUpload, ProviderError, ProviderFile, UploadSource,
};
use serde_json::Value;
use sqlx::{MySql, Transaction};

use super::ensure_vector_store::take_over;
use super::{Scope, deletions, proof};
use crate::halt::{Halt, chain};

/// Files whose contents on disk are not what their rows say.
const CORRUPTIONS: &str = "rag_file_corruptions_total";

/// What became of one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    /// The provider has it.
    Yes,
    /// It never will: the row says why, and the build goes on with the other files.
    Failed,
    /// Another job is at it.
    Busy,
    /// Not begun, because the build stops or the file is gone.
    Skipped,
}

enum Declaration {
    There,
    Busy,
    /// The file was deleted since the plan was made.
    Gone,
    Fresh(Intent),
    Inherited(Intent),
}

/// Makes sure that the provider has this file's present content.
pub(crate) async fn ensure(scope: &Scope<'_>, member: &Member) -> Result<Uploaded, Halt> {
    let intent = match declare(scope, member).await? {
        Declaration::There => return Ok(Uploaded::Yes),
        Declaration::Busy => return Ok(Uploaded::Busy),
        Declaration::Gone => return Ok(Uploaded::Skipped),
        Declaration::Fresh(intent) => intent,
        Declaration::Inherited(intent) => match inherit(scope, member, intent).await? {
            Inherited::Gone => return Ok(Uploaded::Skipped),
            Inherited::Found => return Ok(Uploaded::Yes),
            Inherited::UploadAgain(intent) => *intent,
        },
    };
    let upload = match source(scope, member).await {
        Ok(upload) => upload,
        Err(Unavailable::Here(error)) => {
            let mut tx = scope.write().await?;
            intents::resolve(&mut tx, intent.id, &scope.token).await?;
            tx.commit().await?;
            return Err(Halt::storage(&scope.context.files, &error));
        }
        Err(Unavailable::Lost(text)) => {
            return lost(scope, member, &intent, uploads::CONTENTS_MISSING, &text).await;
        }
        Err(Unavailable::Corrupted(text)) => {
            return lost(scope, member, &intent, ErrorKind::LocalCorruption.as_str(), &text).await;
        }
    };
    match scope.provider.upload_file(upload).await {
        Ok(file) => match recorded(scope, member, &intent, &file).await {
            // The claim was lost while the upload was on the wire. Whoever has it now makes another one.
            Err(Halt::Stopped) => {
                deletions::disown_file(scope, member.desired.file_id, &intent, &file.id).await?;
                Err(Halt::Stopped)
            }
            result => result,
        },
        Err(error) => give_back(scope, member, &intent, error).await,
    }
}

async fn recorded(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    file: &ProviderFile,
) -> Result<Uploaded, Halt> {
    let mut tx = scope.write_progress().await?;
    record(scope, &mut tx, member, intent, &file.id, &file.raw).await?;
    tx.commit().await?;
    tracing::info!(file.id = %member.desired.file_id, external_file_id = file.id, "uploaded");
    Ok(Uploaded::Yes)
}

/// Says what is about to happen, or finds out who is at it.
async fn declare(scope: &Scope<'_>, member: &Member) -> Result<Declaration, Halt> {
    let file = &member.desired;
    let provider = &scope.provider_type;
    let mut tx = scope.write().await?;
    // Who deletes the file holds this lock while looking for intents: either ours is seen there, or the deletion here.
    match files::lock(&mut tx, &scope.domain_id, file.file_id).await {
        Err(DbError::NotFound(_)) => return Ok(Declaration::Gone),
        result => result?,
    };
    let declared =
        match intents::declare(&mut tx, &new_intent(scope, member, &file.file_id.to_string())).await {
            // It comes and goes under our eyes: others are at it.
            Err(DbError::Conflict { .. }) => return Ok(Declaration::Busy),
            declared => declared?,
        };
    let answer = match declared {
        Declared::New(intent) => {
            // Since the plan was made, another job may have brought the copy.
            let copy = uploads::find(&mut tx, provider, file.file_id).await?;
            if copy.is_some_and(|copy| {
                copy.status == UploadStatus::Uploaded
                    && copy.content_sha256 == file.content_sha256
                    && copy
                        .file_name
                        .as_deref()
                        .is_none_or(|name| name == member.file_name)
            }) {
                intents::resolve(&mut tx, intent.id, &scope.token).await?;
                Declaration::There
            } else {
                want(&mut tx, provider, member).await?;
                Declaration::Fresh(intent)
            }
        }
        Declared::Existing(intent) => match take_over(scope, &mut tx, &intent).await {
            Ok(()) => Declaration::Inherited(intent),
            Err(Halt::Snooze { .. }) => Declaration::Busy,
            Err(halt) => return Err(halt),
        },
    };
    tx.commit().await?;
    Ok(answer)
}

/// The row of the copy that is to be made: these bytes, under this name.
async fn want(tx: &mut Transaction<'static, MySql>, provider: &str, member: &Member) -> Result<(), Halt> {
    let file = &member.desired;
    uploads::mark_pending(tx, provider, file.file_id, &file.content_sha256).await?;
    Ok(uploads::set_name(tx, provider, file.file_id, &member.file_name).await?)
}

fn new_intent<'a>(scope: &'a Scope<'_>, member: &'a Member, subject: &'a str) -> NewIntent<'a> {
    NewIntent {
        provider_id: &scope.provider_type,
        operation: Operation::UploadFile,
        subject,
        index_id: None,
        content: Some(Content {
            sha256: &member.desired.content_sha256,
            file_name: &member.file_name,
            size_bytes: member.desired.size_bytes,
        }),
        claim_token: &scope.token,
    }
}

enum Inherited {
    /// The file was deleted meanwhile.
    Gone,
    /// The earlier try had brought it: that is proven.
    Found,
    UploadAgain(Box<Intent>),
}

/// An earlier try to upload this file was not heard of. It may have left a copy at the provider, which its name and size do
/// not tell from a stranger's. Where there is proof, that copy is taken. Else the bytes go up again, and the lost try is
/// remembered for the search for orphans.
async fn inherit(scope: &Scope<'_>, member: &Member, intent: Intent) -> Result<Inherited, Halt> {
    let provider = &scope.provider_type;
    let file = &member.desired;
    let is_current = intent.content_sha256.as_ref() == Some(&file.content_sha256)
        && intent.file_name.as_ref() == Some(&member.file_name);
    let copy = if is_current {
        proof::find_copy(scope, &intent).await?
    } else {
        None
    };
    let mut tx = scope.write().await?;
    // Whoever deletes the file holds this lock.
    match files::lock(&mut tx, &scope.domain_id, file.file_id).await {
        Err(DbError::NotFound(_)) => return Ok(Inherited::Gone),
        result => result?,
    };
    want(&mut tx, provider, member).await?;
    if let Some(copy) = copy
        && proof::may_adopt(&mut tx, &intent, &copy.id).await?
    {
        record(scope, &mut tx, member, &intent, &copy.id, &copy.raw).await?;
        tx.commit().await?;
        tracing::info!(
            file.id = %file.file_id,
            external_file_id = copy.id,
            "an earlier upload was not heard of, but has arrived: its bytes were compared"
        );
        return Ok(Inherited::Found);
    }
    traces::insert_unheard(&mut tx, &intent).await?;
    intents::resolve(&mut tx, intent.id, &scope.token).await?;
    let intent =
        match intents::declare(&mut tx, &new_intent(scope, member, &file.file_id.to_string())).await? {
            Declared::New(intent) => intent,
            Declared::Existing(_) => {
                return Err(Halt::snooze(Duration::ZERO, "an upload intent moved"));
            }
        };
    tx.commit().await?;
    tracing::warn!(
        file.id = %file.file_id,
        "an earlier upload was not heard of: the file goes up again, and the provider may keep a spare copy"
    );
    Ok(Inherited::UploadAgain(Box::new(intent)))
}

/// The provider has the content: the row says so, the copy it replaces is retired, the intent has done its service.
async fn record(
    scope: &Scope<'_>,
    tx: &mut Transaction<'static, MySql>,
    member: &Member,
    intent: &Intent,
    external_file_id: &str,
    raw: &Value,
) -> Result<(), Halt> {
    let (provider, file) = (&scope.provider_type, &member.desired);
    let older = uploads::mark_uploaded(
        tx,
        provider,
        file.file_id,
        &file.content_sha256,
        external_file_id,
        raw,
    )
    .await?;
    traces::mark_heard(tx, provider, Kind::File, intent.id, external_file_id).await?;
    if let Some(older) = older {
        intents::retire_file_for(tx, provider, &older, intents::Owner::File(file.file_id)).await?;
    }
    Ok(intents::resolve(tx, intent.id, &scope.token).await?)
}

/// An upload failed: for good, or for now. The intent stays only if the provider may have the file all the same.
async fn give_back(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    error: ProviderError,
) -> Result<Uploaded, Halt> {
    let (code, text) = (error.kind.as_str(), chain(&error));
    if error.effect == Effect::None && error.disposition() == Disposition::Fail {
        if error.kind == ErrorKind::LocalCorruption {
            return lost(scope, member, intent, code, &text).await;
        }
        return fail(scope, member, intent, (code, &text)).await;
    }
    let mut tx = scope.write().await?;
    uploads::note_error(
        &mut tx,
        &scope.provider_type,
        member.desired.file_id,
        (code, &text),
    )
    .await?;
    if error.effect == Effect::None {
        intents::resolve(&mut tx, intent.id, &scope.token).await?;
    }
    tx.commit().await?;
    tracing::warn!(file.id = %member.desired.file_id, error = text, "upload interrupted");
    Err(match error.kind {
        ErrorKind::SourceUnreadable => {
            let source = io::Error::other(text);
            let action = "read the file contents to the end";
            Halt::storage(&scope.context.files, &FilesError::Io { action, source })
        }
        _ => error.into(),
    })
}

async fn fail(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    (code, text): (&str, &str),
) -> Result<Uploaded, Halt> {
    let (provider, file) = (&scope.provider_type, &member.desired);
    tracing::warn!(file.id = %file.file_id, error = text, "the file can't be uploaded");
    let mut tx = scope.write().await?;
    uploads::mark_failed(
        &mut tx,
        provider,
        file.file_id,
        &file.content_sha256,
        (code, text),
    )
    .await?;
    intents::resolve(&mut tx, intent.id, &scope.token).await?;
    tx.commit().await?;
    Ok(Uploaded::Failed)
}

/// The contents that the row speaks of are not there, or are others: the file has failed until it gets new ones. Unless it
/// has them already: then the old ones are gone for a good reason, and the next round takes the new ones.
async fn lost(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    code: &'static str,
    text: &str,
) -> Result<Uploaded, Halt> {
    let mut db = scope.context.pool.acquire().await?;
    let now = files::find(&mut db, &scope.domain_id, member.desired.file_id).await?;
    drop(db);
    let is_stale = now
        .as_ref()
        .is_none_or(|file| file.local_path != member.local_path);
    if is_stale {
        let mut tx = scope.write().await?;
        intents::resolve(&mut tx, intent.id, &scope.token).await?;
        tx.commit().await?;
        return match now {
            None => Ok(Uploaded::Skipped),
            Some(_) => Err(Halt::snooze(Duration::ZERO, "the file has got new contents")),
        };
    }
    metrics::counter!(CORRUPTIONS, "met_by" => "upload", "code" => code).increment(1);
    tracing::error!(file.id = %member.desired.file_id, path = member.local_path, code, error = text, "stored contents are damaged");
    fail(scope, member, intent, (code, text)).await
}

/// Why there is nothing to send.
enum Unavailable {
    /// On this machine.
    Here(FilesError),
    Lost(String),
    Corrupted(String),
}

async fn source(scope: &Scope<'_>, member: &Member) -> Result<FileUpload, Unavailable> {
    let opened = scope.context.files.open(&member.local_path).await;
    let contents = opened.map_err(|error| {
        if error.is_storage_failure() {
            Unavailable::Here(error)
        } else {
            Unavailable::Lost(chain(&error))
        }
    })?;
    let (size_bytes, expected) = (contents.size_bytes(), member.desired.size_bytes);
    if size_bytes != expected {
        return Err(Unavailable::Corrupted(format!(
            "{}: the stored file has {size_bytes} bytes instead of {expected}",
            ErrorKind::LocalCorruption
        )));
    }
    Ok(FileUpload {
        file_name: member.file_name.clone(),
        content_type: Some(member.file_type.clone()),
        size_bytes,
        sha256: Some(member.desired.content_sha256.clone()),
        body: Arc::new(StoredFile {
            files: scope.context.files.clone(),
            path: member.local_path.clone(),
        }),
    })
}

/// Stored contents as the provider layer reads them. A path is never written twice, so every opening sees the same bytes.
struct StoredFile {
    files: FileStore,
    path: String,
}

#[async_trait]
impl UploadSource for StoredFile {
    async fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let contents = self.files.open(&self.path).await.map_err(io::Error::other)?;
        contents.part(offset, u64::MAX).await
    }
}
