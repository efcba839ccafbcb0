//! The transactions of the upload stage: what has arrived, and that it is to be attached; what goes up next; what was declared
//! and not sent.

use std::time::Duration;

use rag_db::attachments::{self, NewAttachment};
use rag_db::composition::{self, Member};
use rag_db::intents::{self, Intent};
use rag_domain::FileId;
use sqlx::MySqlConnection;

use super::signals::Signals;
use super::snapshot::BuildSnapshot;
use super::state::Build;
use crate::delete::disown::disown_file;
use crate::step_error::StepError;
use crate::upload::{Declaration, Sent, declare, record};

/// What has arrived must not be lost to a deadlock, or to a database that is away for a moment: these are the pauses between the
/// tries.
const TRY_AGAIN_AFTER: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_millis(2500),
];

/// What is known of a file that was to be declared.
pub(super) type Declared = (Member, Declaration);

/// The work of one transaction.
pub(super) struct Group {
    /// The provider has these.
    pub(super) sent: Vec<Sent>,
    /// These are to be declared.
    pub(super) next: Vec<Member>,
    /// These were declared, and nothing was sent.
    pub(super) not_sent: Vec<Intent>,
}

/// Writes the group, and answers what is known of the files that were to be declared.
pub(super) async fn write(
    build: &Build<'_>,
    signals: &Signals,
    group: Group,
) -> Result<Vec<Declared>, StepError> {
    let declared = match write_again_and_again(build, &group).await {
        // The claim was lost while the uploads were on the wire. Whoever has it now makes other ones.
        Err(StepError::Stopped) => {
            for sent in &group.sent {
                disown_file(build, sent.member.desired.file_id, &sent.intent, &sent.file.id).await?;
            }
            return Err(StepError::Stopped);
        }
        declared => declared?,
    };
    for sent in &group.sent {
        tracing::info!(file.id = %sent.member.desired.file_id, external_file_id = sent.file.id, "uploaded");
    }
    signals.add_pending(group.sent.len());
    Ok(group.next.into_iter().zip(declared).collect())
}

async fn write_again_and_again(build: &Build<'_>, group: &Group) -> Result<Vec<Declaration>, StepError> {
    for pause in TRY_AGAIN_AFTER {
        match write_once(build, group).await {
            Err(StepError::Database { error }) => {
                tracing::debug!(error, "what has arrived could not be written down, once more");
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
    write_once(build, group).await
}

async fn write_once(build: &Build<'_>, group: &Group) -> Result<Vec<Declaration>, StepError> {
    let mut tx = if group.sent.is_empty() {
        build.write().await?
    } else {
        build.write_progress().await?
    };
    // First, because it locks files; after that come intents and copies.
    let next: Vec<&Member> = group.next.iter().collect();
    let declared = declare(build, &mut tx, &next).await?;
    let not_sent: Vec<_> = group.not_sent.iter().map(|intent| intent.id).collect();
    intents::resolve_many(&mut tx, &not_sent, &build.token).await?;
    if !group.sent.is_empty() {
        let arrivals: Vec<_> = group.sent.iter().map(Sent::arrival).collect();
        record(build, &mut tx, &arrivals).await?;
        let files: Vec<FileId> = group
            .sent
            .iter()
            .map(|sent| sent.member.desired.file_id)
            .collect();
        want(build, &mut tx, &files).await?;
        build.report_in(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(declared)
}

/// Writes down that these files are to be attached, as the composition says now. Their copies' rows are locked.
async fn want(build: &Build<'_>, tx: &mut MySqlConnection, files: &[FileId]) -> Result<(), StepError> {
    let members = composition::list_some(tx, &build.job.domain_id, build.index.id, files).await?;
    let snapshot = BuildSnapshot::new(members, Vec::new());
    let new: Vec<NewAttachment<'_>> = build.new_attachments(&snapshot)?.collect();
    attachments::insert_missing(tx, &new).await?;
    Ok(())
}
