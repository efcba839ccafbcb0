//! Uploads that were begun, not heard of, and that no build will take up again, because their files left every index.
//!
//! What they may have left at the provider is looked for as a build would; what is found is retired instead of adopted.
//! Nothing here is a write on a job's behalf: the intent's row decides between two who are at it.

use rag_db::intents::{self, Intent};
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
    drop(db);
    let candidates = adopt::file_candidates(provider, intent).await?;
    let mut tx = context.pool.begin().await?;
    if !intents::give_up(&mut tx, intent.id, intent.claim_token.as_deref()).await? {
        // A build wants the file again and has taken the intent over.
        return Ok(());
    }
    if let Some(found) = upload::unclaimed(&mut tx, provider_type, intent, candidates).await? {
        intents::retire_file(&mut tx, provider_type, &found.id).await?;
    }
    tx.commit().await?;
    tracing::info!(file.id = intent.subject, "an abandoned upload is over");
    Ok(())
}
