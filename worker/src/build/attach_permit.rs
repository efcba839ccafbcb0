//! Some providers index only so much at once, over all stores of a connection: an attach waits for one of these permits.
//!
//! Reads and writes attachments (`attaching` is the intent, and what a permit is counted by). Calls what `poll` calls.

use std::time::Duration;

use rag_db::attachments;
use rag_domain::{AttachMethod, AttachmentId};

use super::poll;
use super::state::Build;
use crate::step_error::StepError;

/// Some providers index only so much at once, over all stores of the connection; an attach beyond that would be refused.
pub(super) async fn wait_for_permit(build: &Build<'_>) -> Result<(), StepError> {
    let Some(most) = build.provider.capabilities().max_concurrent_indexing else {
        return Ok(());
    };
    if operations(build).await? < u64::from(most) {
        return Ok(());
    }
    // Other builds poll for their own files.
    poll::poll(build).await?;
    if operations(build).await? < u64::from(most) {
        return Ok(());
    }
    Err(no_permit(build, most))
}

fn no_permit(build: &Build<'_>, most: u32) -> StepError {
    let pause = build.context.settings.build_poll_min;
    StepError::snooze(pause, format!("the provider indexes {most} batches at once"))
}

/// The intent, if a permit is free: of several builds that saw a free one a moment ago, no more get one than there are.
/// `patience`: see [`attachments::mark_attaching`].
pub(super) async fn declare(
    build: &Build<'_>,
    ids: &[AttachmentId],
    way: AttachMethod,
    patience: Duration,
) -> Result<(), StepError> {
    let mut tx = build.write().await?;
    if let Some(most) = build.provider.capabilities().max_concurrent_indexing
        && !attachments::find_indexing_place(&mut tx, &build.index.provider_type, most).await?
    {
        return Err(no_permit(build, most));
    }
    attachments::mark_attaching(&mut tx, ids, way, patience).await?;
    Ok(tx.commit().await?)
}

async fn operations(build: &Build<'_>) -> Result<u64, StepError> {
    let mut db = build.context.pool.acquire().await?;
    Ok(attachments::count_indexing_operations(&mut db, &build.index.provider_type).await?)
}
