//! Step 5: what no longer belongs in the store leaves it, and what nobody needs any more is deleted at the provider.
//!
//! Reads composition and attachments. Writes attachments (`detaching` is the intent) and deletion intents. Calls detach,
//! delete of files and of stores. Safe to repeat because a detach or a deletion of something absent is a success.

use rag_db::attachments::{self, Attachment};
use rag_db::indexes;
use rag_db::intents::{self, Operation};
use rag_domain::AttachmentState;
use rag_providers::{Deleted, Provider, ProviderError};
use sqlx::{MySqlConnection, MySqlPool};

use super::{Build, Scope, Step, abandoned};
use crate::context::Context;
use crate::halt::{Halt, chain};

/// Deletions per build or upkeep round; what is left waits for the next.
const DELETIONS: u32 = 500;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let picture = build.picture().await?;
    let leaving: Vec<&Attachment> = picture
        .attachments
        .iter()
        .filter(|row| {
            row.state == AttachmentState::Detaching || picture.plan.detach.iter().any(|(id, _)| *id == row.id)
        })
        .collect();
    detach(build, &leaving).await?;
    let provider_type = &build.index.provider_type;
    abandoned::sweep(build.context, provider_type, build.provider.as_ref()).await?;
    delete_retired(
        &build.context.pool,
        &build.index.provider_type,
        build.provider.as_ref(),
    )
    .await?;
    Ok(Step::Finish)
}

/// Takes files out of the store; their copies go too, once nothing refers to them.
pub(crate) async fn detach(build: &Build<'_>, rows: &[&Attachment]) -> Result<(), Halt> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut tx = build.write().await?;
    attachments::mark_detaching(&mut tx, &ids).await?;
    tx.commit().await?;
    for row in rows {
        build.check_running()?;
        build
            .provider
            .detach_file(&row.external_store_id, row.store_file_id())
            .await?;
        let mut tx = build.write().await?;
        attachments::delete_detached(&mut tx, row.id).await?;
        intents::retire_file(&mut tx, &build.index.provider_type, &row.external_file_id).await?;
        tx.commit().await?;
        tracing::info!(external_file_id = row.external_file_id, "detached");
    }
    Ok(())
}

/// Carries out the deletions that wait at a provider. One that fails keeps its intent, and with it its next try; it is
/// no reason to hold up the build that came across it.
pub(crate) async fn delete_retired(
    pool: &MySqlPool,
    provider_type: &str,
    provider: &dyn Provider,
) -> Result<(), Halt> {
    for operation in [Operation::DeleteVectorStore, Operation::DeleteFile] {
        let mut db = pool.acquire().await?;
        let waiting = intents::list_deletions(&mut db, provider_type, operation, DELETIONS).await?;
        drop(db);
        for intent in waiting {
            let mut db = pool.acquire().await?;
            if is_referenced(&mut db, provider_type, operation, &intent.subject).await? {
                // Somebody adopted it after all.
                intents::resolve_deletion(&mut db, intent.id).await?;
                continue;
            }
            drop(db);
            let result = delete(provider, operation, &intent.subject).await;
            let mut db = pool.acquire().await?;
            match result {
                Ok(_) => intents::resolve_deletion(&mut db, intent.id).await?,
                Err(error) => {
                    tracing::warn!(
                        subject = intent.subject,
                        error = chain(&error),
                        "a deletion at the provider failed"
                    );
                    intents::record_error(&mut db, intent.id, &error.to_string()).await?;
                }
            }
        }
    }
    Ok(())
}

async fn is_referenced(
    db: &mut MySqlConnection,
    provider_type: &str,
    operation: Operation,
    subject: &str,
) -> Result<bool, Halt> {
    Ok(match operation {
        Operation::DeleteVectorStore => intents::is_store_referenced(db, provider_type, subject).await?,
        _ => intents::is_file_in_use(db, provider_type, subject).await?,
    })
}

/// We made this file under a claim that is lost since. If no row speaks of it, nobody will ever know it: it is garbage, and
/// ours. This is no write on the job's behalf, so it needs no fence.
pub(crate) async fn disown_file(scope: &Scope<'_>, external_file_id: &str) -> Result<(), Halt> {
    let (pool, provider_type) = (&scope.context.pool, &scope.provider_type);
    let mut db = pool.acquire().await?;
    if intents::retire_file(&mut db, provider_type, external_file_id).await? {
        tracing::warn!(
            external_file_id,
            "uploaded under a lost claim: it will be deleted"
        );
    }
    drop(db);
    delete_retired(pool, provider_type, scope.provider.as_ref()).await
}

/// As [`disown_file`], for a store that is not the index's. Under the index's lock: whoever has the claim now may be about
/// to adopt it, and a store that is to be deleted is adopted by nobody.
pub(crate) async fn disown_store(build: &Build<'_>, store: &str) -> Result<(), Halt> {
    let (pool, provider_type) = (&build.context.pool, &build.index.provider_type);
    let mut tx = pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &build.job.domain_id, build.index.id).await?;
    if index.is_none_or(|index| index.external_id.as_deref() != Some(store)) {
        intents::retire_store(&mut tx, provider_type, build.index.id, store).await?;
        tracing::warn!(store, "made under a lost claim: it will be deleted");
    }
    tx.commit().await?;
    delete_retired(pool, provider_type, build.provider.as_ref()).await
}

async fn delete(
    provider: &dyn Provider,
    operation: Operation,
    subject: &str,
) -> Result<Deleted, ProviderError> {
    match operation {
        Operation::DeleteVectorStore => provider.delete_vector_store(subject).await,
        _ => provider.delete_file(subject).await,
    }
}

/// Carries out what waits at every provider that can be used now.
pub(crate) async fn clean_up_everywhere(context: &Context) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    let provider_types = intents::list_providers_to_clean_up(&mut db).await?;
    for provider_type in provider_types {
        // A provider that can't be used now keeps what waits there; `open` has said why.
        if let Ok(provider) = context.connections.open(&mut db, &provider_type).await {
            abandoned::sweep(context, &provider_type, provider.as_ref()).await?;
            delete_retired(&context.pool, &provider_type, provider.as_ref()).await?;
        }
    }
    Ok(())
}
