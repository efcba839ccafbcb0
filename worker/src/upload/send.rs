//! One declared upload: the bytes go to the provider. What came of it is written down by `outcome`.
//!
//! What goes up is held against the hash of the file's row on the way, so that a copy is what its row says. Contents that are
//! lost, or are other bytes, are the file's failure. Contents that can't be read here are not: the job waits, for another
//! worker perhaps.
//!
//! Reads the intent. Writes what `outcome` writes of failures, and of an upload that was never answered before. Calls create of
//! files; on an exclusive account also list and content, after an upload that was never answered (`proof`).

use std::time::Duration;

use rag_db::composition::Member;
use rag_db::intents::{self, Declared, Intent};
use rag_db::{DbError, files, ownership, uploads};
use rag_providers::{ErrorKind, ProviderFile};

use super::Uploaded;
use super::declare::{content, wanted};
use super::outcome::{Arrival, give_back, lost, record};
use super::source::{self, Unavailable};
use crate::lease::Scope;
use crate::observe::uploaded_copy;
use crate::step_error::StepError;

/// An upload that has come to its end.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The provider has the file, and no row says so yet.
    Sent(Box<Sent>),
    /// Rows say what came of it.
    Written(Uploaded),
}

/// A file that the provider took.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) member: Member,
    pub(crate) intent: Intent,
    pub(crate) file: ProviderFile,
}

impl Sent {
    pub(crate) fn arrival(&self) -> Arrival<'_> {
        Arrival {
            member: &self.member,
            intent: &self.intent,
            external_file_id: &self.file.id,
            raw: &self.file.raw,
        }
    }
}

/// Sends a file whose intent is new: nothing of it can be at the provider yet.
pub(crate) async fn send(scope: &Scope<'_>, member: Member, intent: Intent) -> Result<Ended, StepError> {
    let upload = match source::open(scope.context, &member).await {
        Ok(upload) => upload,
        Err(Unavailable::Here(error)) => {
            let mut tx = scope.write().await?;
            intents::resolve(&mut tx, intent.id, &scope.token).await?;
            tx.commit().await?;
            return Err(StepError::storage(&scope.context.files, &error));
        }
        Err(Unavailable::Lost(text)) => {
            let lost = lost(scope, &member, &intent, uploads::CONTENTS_MISSING, &text);
            return Ok(Ended::Written(lost.await?));
        }
        Err(Unavailable::Corrupted(text)) => {
            let code = ErrorKind::LocalCorruption.as_str();
            let lost = lost(scope, &member, &intent, code, &text);
            return Ok(Ended::Written(lost.await?));
        }
    };
    match scope.provider.upload_file(upload).await {
        Ok(file) => Ok(Ended::Sent(Box::new(Sent { member, intent, file }))),
        Err(error) => Ok(Ended::Written(give_back(scope, &member, &intent, error).await?)),
    }
}

/// As [`send`], for a file whose earlier upload was never answered.
pub(crate) async fn send_inherited(
    scope: &Scope<'_>,
    member: Member,
    intent: Intent,
) -> Result<Ended, StepError> {
    match inherit(scope, &member, intent).await? {
        Inherited::Gone => Ok(Ended::Written(Uploaded::Skipped)),
        Inherited::Found => Ok(Ended::Written(Uploaded::Yes)),
        Inherited::UploadAgain(intent) => send(scope, member, *intent).await,
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
    uploads::mark_pending_many(&mut tx, provider, &[wanted(member)]).await?;
    if let Some(copy) = copy
        && uploaded_copy::may_adopt(&mut tx, &intent, &copy.id).await?
    {
        let arrival = Arrival {
            member,
            intent: &intent,
            external_file_id: &copy.id,
            raw: &copy.raw,
        };
        record(scope, &mut tx, &[arrival]).await?;
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
    let new = [(file.file_id, content(member))];
    let declared = intents::declare_uploads(&mut tx, provider, &scope.token, &new).await?;
    let Some(Some(Declared::New(intent))) = declared.into_iter().next() else {
        return Err(StepError::snooze(Duration::ZERO, "an upload intent moved"));
    };
    tx.commit().await?;
    tracing::warn!(
        file.id = %file.file_id,
        "an earlier upload was never answered: the file goes up again, and the provider may keep a spare copy"
    );
    Ok(Inherited::UploadAgain(Box::new(intent)))
}
