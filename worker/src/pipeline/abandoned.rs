//! Uploads that were begun, not heard of, and that nobody will take up again: their files are in no index, and no upload
//! job of theirs is active.
//!
//! What they may have left at the provider is looked for as a build would; what is found is retired instead of adopted.
//! Nothing here is a write on a job's behalf: the intent's row decides between two who are at it.

use apalis_mariadb::JobKind as _;
use rag_db::intents::{self, Intent};
use rag_jobs::FileUpload;
use rag_providers::Provider;

use super::{adopt, upload};
use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::ensure_vector_store::is_held;

/// Per build or upkeep round; what is left waits for the next.
const UPLOADS: u32 = 100;

/// Ends what no live claim holds. An upload that can't be looked into now stays for the next round.
pub(crate) async fn sweep(
    context: &Context,
    provider_type: &str,
    provider: &dyn Provider,
) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    let abandoned = intents::list_abandoned_uploads(&mut db, provider_type, UPLOADS).await?;
    drop(db);
    for intent in abandoned {
        if let Err(halt) = end(context, provider_type, provider, &intent).await {
            tracing::warn!(
                file.id = intent.subject,
                ?halt,
                "an abandoned upload can't be looked into now"
            );
        }
    }
    Ok(())
}

async fn end(
    context: &Context,
    provider_type: &str,
    provider: &dyn Provider,
    intent: &Intent,
) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    if is_held(&context.queue, &mut db, intent).await? {
        return Ok(());
    }
    // An upload job that waits for its next try will look for what the last one left, and adopt it.
    let key = FileUpload::unique_key_of(provider_type, &intent.subject);
    let active = context.queue.find_active(&mut db, FileUpload::KIND, &key).await?;
    if active.is_some() {
        return Ok(());
    }
    drop(db);
    let candidates = adopt::file_candidates(provider, intent).await?;
    let mut tx = context.pool.begin().await?;
    if !intents::give_up(&mut tx, intent.id, intent.claim_token.as_deref()).await? {
        // A build or an upload job wants the file again and has taken the intent over.
        return Ok(());
    }
    if let Some(found) = upload::unclaimed(&mut tx, provider_type, intent, candidates).await? {
        intents::retire_file(&mut tx, provider_type, &found.id).await?;
    }
    tx.commit().await?;
    tracing::info!(file.id = intent.subject, "an abandoned upload is over");
    Ok(())
}
