//! Uploads that were begun, not heard of, and that nobody will take up again: their files are in no index, and no upload
//! job of theirs is active.
//!
//! What they may have left at the provider is looked for as a build would; what is found is retired instead of adopted. What
//! is not found may be on its way still: it is looked for again, until it is too old for that, and leaves a trace by which
//! it is known should it ever come to light. Nothing here is a write on a job's behalf: the intent's row decides between two
//! who are at it.

use apalis_mariadb::JobKind as _;
use chrono::{TimeDelta, Utc};
use rag_db::intents::{self, Intent, Owner};
use rag_db::{files, traces};
use rag_domain::FileId;
use rag_jobs::FileUpload;
use rag_providers::ProviderFile;

use super::deletions::Site;
use super::{adopt, upload};
use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::ensure_vector_store::is_held;

/// Per statement and listing.
const PORTION: u32 = 200;

/// Ends what no live claim holds. An upload that can't be looked into now stays for the next round.
pub(crate) async fn sweep(context: &Context, site: Site<'_>) -> Result<(), Halt> {
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
        if let Err(halt) = end_all(context, site, &free).await {
            tracing::warn!(%halt, uploads = free.len(), "abandoned uploads can't be looked into now");
            return Ok(());
        }
    }
}

/// Looks for what these left, in one listing.
pub(crate) async fn end_all(context: &Context, site: Site<'_>, intents: &[Intent]) -> Result<(), Halt> {
    let Some(oldest) = intents.iter().map(|intent| intent.created_at).min() else {
        return Ok(());
    };
    let listed = adopt::files_since_intent(site.provider, oldest).await?;
    for intent in intents {
        end(context, site, intent, adopt::fitting(&listed, intent)).await?;
    }
    Ok(())
}

/// Somebody is at it, or will be.
pub(crate) async fn is_wanted(context: &Context, provider_type: &str, intent: &Intent) -> Result<bool, Halt> {
    let mut db = context.pool.acquire().await?;
    if is_held(&context.queue, &mut db, intent).await? {
        return Ok(true);
    }
    // An upload job that waits for its next try will look for what the last one left, and adopt it.
    let key = FileUpload::unique_key_of(provider_type, &intent.subject);
    let active = context.queue.find_active(&mut db, FileUpload::KIND, &key).await?;
    Ok(active.is_some())
}

async fn end(
    context: &Context,
    site: Site<'_>,
    intent: &Intent,
    candidates: Vec<ProviderFile>,
) -> Result<(), Halt> {
    let provider_type = site.provider_type;
    let mut tx = context.pool.begin().await?;
    let file = intent.subject.parse::<FileId>().ok();
    if let Some(file) = file {
        files::lock_any(&mut tx, file).await?;
    }
    match upload::unclaimed(&mut tx, provider_type, intent, candidates).await? {
        Some(found) => {
            if !intents::give_up(&mut tx, intent.id, intent.claim_token.as_deref()).await? {
                // A build or an upload job wants the file again and has taken the intent over.
                return Ok(());
            }
            traces::mark_heard(&mut tx, provider_type, traces::Kind::File, intent.id, &found.id).await?;
            let owner = file.map_or(Owner::Nobody, Owner::File);
            intents::retire_file_for(&mut tx, provider_type, &found.id, owner).await?;
        }
        None if is_young(site, intent) => return Ok(()),
        None => {
            if !intents::give_up(&mut tx, intent.id, intent.claim_token.as_deref()).await? {
                return Ok(());
            }
            traces::insert_unheard(&mut tx, intent).await?;
        }
    }
    tx.commit().await?;
    tracing::info!(file.id = intent.subject, "an abandoned upload is over");
    Ok(())
}

/// The provider may not show it yet, or may just be receiving it.
fn is_young(site: Site<'_>, intent: &Intent) -> bool {
    let grace = TimeDelta::from_std(site.provider.capabilities().settle_grace).unwrap_or(TimeDelta::MAX);
    Utc::now() - intent.updated_at < grace
}
