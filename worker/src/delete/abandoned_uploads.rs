//! Uploads that were begun, never answered, and that no job will take up again: their files are in no index, and no upload
//! job of theirs is active.
//!
//! What they may have left at the provider can't be told from strangers' files: each leaves a trace, by which the search for
//! orphans reports what may be its copy. Nothing here is a write on a job's behalf: the intent's row decides between two who
//! are at it.

use apalis_mariadb::JobKind as _;
use rag_db::intents::{self, Intent};
use rag_db::{files, ownership};
use rag_domain::FileId;
use rag_jobs::FileUpload;

use super::pending::Site;
use crate::context::Context;
use crate::lease::is_held;
use crate::step_error::StepError;

/// Per statement.
const PORTION: u32 = 200;

/// Ends what no live claim holds.
pub(crate) async fn sweep(context: &Context, site: Site<'_>) -> Result<(), StepError> {
    let mut after = None;
    loop {
        let mut db = context.pool.acquire().await?;
        let page = intents::list_abandoned_uploads(&mut db, site.provider_type, after, PORTION).await?;
        drop(db);
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.created_at, last.id));
        let mut free = Vec::new();
        for intent in page {
            if !is_wanted(context, site.provider_type, &intent).await? {
                free.push(intent);
            }
        }
        if site.stop.is_cancelled() {
            return Ok(());
        }
        end_all(context, &free).await?;
    }
}

/// No job waits for these any more.
pub(crate) async fn end_all(context: &Context, intents: &[Intent]) -> Result<(), StepError> {
    for intent in intents {
        end(context, intent).await?;
    }
    Ok(())
}

/// A job works on it, or will.
pub(crate) async fn is_wanted(
    context: &Context,
    provider_type: &str,
    intent: &Intent,
) -> Result<bool, StepError> {
    let mut db = context.pool.acquire().await?;
    if is_held(&context.queue, &mut db, intent).await? {
        return Ok(true);
    }
    // An upload job that waits for its next try will take it over.
    let key = FileUpload::unique_key_of(provider_type, &intent.subject);
    let active = context.queue.find_active(&mut db, FileUpload::KIND, &key).await?;
    Ok(active.is_some())
}

async fn end(context: &Context, intent: &Intent) -> Result<(), StepError> {
    let mut tx = context.pool.begin().await?;
    if let Ok(file) = intent.subject.parse::<FileId>() {
        files::lock_any(&mut tx, file).await?;
    }
    if !intents::give_up(&mut tx, intent.id, intent.claim_token.as_deref()).await? {
        // A build or an upload job wants the file again and has taken the intent over.
        return Ok(());
    }
    ownership::insert_unconfirmed(&mut tx, intent).await?;
    tx.commit().await?;
    tracing::info!(file.id = intent.subject, "an abandoned upload is over");
    Ok(())
}
