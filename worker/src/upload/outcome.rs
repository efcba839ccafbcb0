//! What an upload came to, written into the copy's row; the intent goes in the same transaction unless the provider may have
//! the file all the same.

use std::io;
use std::time::Duration;

use rag_db::composition::Member;
use rag_db::intents::{self, Intent};
use rag_db::uploads::Arrived;
use rag_db::{files, ownership, uploads};
use rag_files::FilesError;
use rag_providers::{Disposition, Effect, ErrorKind, ProviderError};
use serde_json::Value;
use sqlx::MySqlConnection;

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

/// A file that the provider has, for an intent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(super) member: &'a Member,
    pub(super) intent: &'a Intent,
    /// In the Files API.
    pub(super) external_file_id: &'a str,
    pub(super) raw: &'a Value,
}

/// The provider has these files: their rows say so, the copies that they replace are retired, the intents have done their
/// service. The transaction is fenced already.
pub(crate) async fn record(
    scope: &Scope<'_>,
    tx: &mut MySqlConnection,
    arrivals: &[Arrival<'_>],
) -> Result<(), StepError> {
    let provider = &scope.provider_type;
    let copies: Vec<Arrived<'_>> = arrivals
        .iter()
        .map(|arrival| Arrived {
            file: arrival.member.desired.file_id,
            content_sha256: &arrival.member.desired.content_sha256,
            external_file_id: arrival.external_file_id,
            raw: arrival.raw,
        })
        .collect();
    let older = uploads::mark_uploaded_many(tx, provider, &copies).await?;
    let files: Vec<_> = arrivals
        .iter()
        .map(|arrival| (arrival.intent.id, arrival.external_file_id))
        .collect();
    ownership::confirm_files(tx, provider, &files).await?;
    for (file, older) in older {
        intents::retire_file_for(tx, provider, &older, intents::Owner::File(file)).await?;
    }
    let intents: Vec<_> = arrivals.iter().map(|arrival| arrival.intent.id).collect();
    Ok(intents::resolve_many(tx, &intents, &scope.token).await?)
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
