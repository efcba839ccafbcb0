//! Step 5: what no longer belongs in the store leaves it, and what nobody needs any more is deleted at the provider.
//!
//! Reads composition and attachments. Writes attachments (`detaching` is the intent) and deletion intents. Calls detach,
//! delete of files and of stores. Safe to repeat because a detach or a deletion of something absent is a success.

use std::collections::HashSet;

use rag_db::attachments::Attachment;
use rag_domain::{AttachmentId, AttachmentState};

use super::state::Build;
use super::step::Step;
use crate::delete::abandoned_uploads;
use crate::delete::detach::detach;
use crate::delete::pending::{Site, delete_retired};
use crate::step_error::StepError;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    let snapshot = build.snapshot().await?;
    let leaving: HashSet<AttachmentId> = snapshot.plan.detach.iter().map(|(id, _)| *id).collect();
    let leaving: Vec<&Attachment> = snapshot
        .attachments
        .iter()
        .filter(|row| row.state == AttachmentState::Detaching || leaving.contains(&row.id))
        .collect();
    detach(build, &leaving).await?;
    let site = Site::from(&build.scope);
    abandoned_uploads::sweep(build.context, site).await?;
    delete_retired(site, 1).await?;
    Ok(Step::Verify)
}
