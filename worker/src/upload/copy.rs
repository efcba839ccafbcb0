//! One file's copy at the provider: never twice for the same content, except once more for each answer that was lost,
//! and uploaded once when two workers want it at once.
//!
//! What goes up is held against the hash of the file's row on the way, so that a copy is what its row says. Contents that are
//! lost, or are other bytes, are the file's failure. Contents that can't be read here are not: the job waits, for another
//! worker perhaps.
//!
//! Reads the copy's row and the intents. Writes both. Calls create of files; on an exclusive account also list and content,
//! after an upload that was never answered (`proof`). Safe to repeat because the intent is written first and goes in the
//! transaction that records the outcome.

use std::time::Duration;

use rag_db::composition::Member;
use rag_db::intents::{self, Content, Declared, Intent, NewIntent, Operation};
use rag_db::{DbError, files, ownership, uploads};
use rag_domain::UploadStatus;
use rag_providers::ErrorKind;
use sqlx::{MySql, Transaction};

use super::outcome::{Uploaded, give_back, lost, record, recorded};
use super::source::{self, Unavailable};
use crate::delete::disown::disown_file;
use crate::lease::{Scope, take_over};
use crate::observe::uploaded_copy;
use crate::step_error::StepError;

enum Declaration {
    There,
    Busy,
    /// The file was deleted since the plan was made.
    Gone,
    Fresh(Intent),
    Inherited(Intent),
}

/// Makes sure that the provider has this file's present content.
pub(crate) async fn ensure(scope: &Scope<'_>, member: &Member) -> Result<Uploaded, StepError> {
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
    let upload = match source::open(scope.context, member).await {
        Ok(upload) => upload,
        Err(Unavailable::Here(error)) => {
            let mut tx = scope.write().await?;
            intents::resolve(&mut tx, intent.id, &scope.token).await?;
            tx.commit().await?;
            return Err(StepError::storage(&scope.context.files, &error));
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
            Err(StepError::Stopped) => {
                disown_file(scope, member.desired.file_id, &intent, &file.id).await?;
                Err(StepError::Stopped)
            }
            result => result,
        },
        Err(error) => give_back(scope, member, &intent, error).await,
    }
}

/// Says what is about to happen, or finds out who is at it.
async fn declare(scope: &Scope<'_>, member: &Member) -> Result<Declaration, StepError> {
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
            Err(StepError::Snooze { .. }) => Declaration::Busy,
            Err(error) => return Err(error),
        },
    };
    tx.commit().await?;
    Ok(answer)
}

/// The row of the copy that is to be made: these bytes, under this name.
async fn want(
    tx: &mut Transaction<'static, MySql>,
    provider: &str,
    member: &Member,
) -> Result<(), StepError> {
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

/// An earlier upload of this file was never answered. It may have left a copy at the provider, which its name and size do
/// not tell from a stranger's. Where there is proof, that copy is taken. Else the bytes go up again, and the lost try is
/// remembered for the search for orphans.
async fn inherit(scope: &Scope<'_>, member: &Member, intent: Intent) -> Result<Inherited, StepError> {
    let provider = &scope.provider_type;
    let file = &member.desired;
    let is_current = intent.content_sha256.as_ref() == Some(&file.content_sha256)
        && intent.file_name.as_ref() == Some(&member.file_name);
    let copy = if is_current {
        uploaded_copy::find_copy(scope, &intent).await?
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
        && uploaded_copy::may_adopt(&mut tx, &intent, &copy.id).await?
    {
        record(scope, &mut tx, member, &intent, &copy.id, &copy.raw).await?;
        tx.commit().await?;
        tracing::info!(
            file.id = %file.file_id,
            external_file_id = copy.id,
            "an earlier upload was never answered, but has arrived: its bytes were compared"
        );
        return Ok(Inherited::Found);
    }
    ownership::insert_unconfirmed(&mut tx, &intent).await?;
    intents::resolve(&mut tx, intent.id, &scope.token).await?;
    let intent =
        match intents::declare(&mut tx, &new_intent(scope, member, &file.file_id.to_string())).await? {
            Declared::New(intent) => intent,
            Declared::Existing(_) => {
                return Err(StepError::snooze(Duration::ZERO, "an upload intent moved"));
            }
        };
    tx.commit().await?;
    tracing::warn!(
        file.id = %file.file_id,
        "an earlier upload was never answered: the file goes up again, and the provider may keep a spare copy"
    );
    Ok(Inherited::UploadAgain(Box::new(intent)))
}
