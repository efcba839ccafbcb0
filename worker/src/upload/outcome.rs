//! What an upload came to, written into the copy's row; the intent goes in the same transaction unless the provider may have
//! the file all the same.

use std::io;
use std::time::Duration;

use rag_db::composition::Member;
use rag_db::intents::{self, Intent};
use rag_db::ownership::{self, Kind};
use rag_db::{files, uploads};
use rag_files::FilesError;
use rag_providers::{Disposition, Effect, ErrorKind, ProviderError, ProviderFile};
use serde_json::Value;
use sqlx::{MySql, Transaction};

use crate::lease::Scope;
use crate::step_error::{StepError, chain};

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

pub(super) async fn recorded(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    file: &ProviderFile,
) -> Result<Uploaded, StepError> {
    let mut tx = scope.write_progress().await?;
    record(scope, &mut tx, member, intent, &file.id, &file.raw).await?;
    tx.commit().await?;
    tracing::info!(file.id = %member.desired.file_id, external_file_id = file.id, "uploaded");
    Ok(Uploaded::Yes)
}

/// The provider has the content: the row says so, the copy it replaces is retired, the intent has done its service.
pub(super) async fn record(
    scope: &Scope<'_>,
    tx: &mut Transaction<'static, MySql>,
    member: &Member,
    intent: &Intent,
    external_file_id: &str,
    raw: &Value,
) -> Result<(), StepError> {
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
    ownership::confirm(tx, provider, Kind::File, intent.id, external_file_id).await?;
    if let Some(older) = older {
        intents::retire_file_for(tx, provider, &older, intents::Owner::File(file.file_id)).await?;
    }
    Ok(intents::resolve(tx, intent.id, &scope.token).await?)
}

/// An upload failed: for good, or for now. The intent stays only if the provider may have the file all the same.
pub(super) async fn give_back(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    error: ProviderError,
) -> Result<Uploaded, StepError> {
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
            StepError::storage(&scope.context.files, &FilesError::Io { action, source })
        }
        _ => error.into(),
    })
}

async fn fail(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    (code, text): (&str, &str),
) -> Result<Uploaded, StepError> {
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

/// The contents that the row names are missing, or are others: the file has failed until it gets new ones. Unless it
/// has them already: then the old ones are gone for a good reason, and the next round takes the new ones.
pub(super) async fn lost(
    scope: &Scope<'_>,
    member: &Member,
    intent: &Intent,
    code: &'static str,
    text: &str,
) -> Result<Uploaded, StepError> {
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
            Some(_) => Err(StepError::snooze(Duration::ZERO, "the file has got new contents")),
        };
    }
    metrics::counter!(CORRUPTIONS, "met_by" => "upload", "code" => code).increment(1);
    tracing::error!(file.id = %member.desired.file_id, path = member.local_path, code, error = text, "stored contents are damaged");
    fail(scope, member, intent, (code, text)).await
}
