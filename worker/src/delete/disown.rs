//! What was made at a provider under a claim that was lost meanwhile: no row will ever name it, so it is deleted.
//!
//! Writes the ownership ledger and deletion intents, then carries them out. These are no writes on the job's behalf, so they
//! need no fence; they hold the lock of the file or index, as everything that retires one.

use rag_db::intents::{self, Intent, Owner};
use rag_db::ownership::{self, Kind};
use rag_db::{files, indexes};
use rag_domain::{FileId, IndexId};
use tokio_util::sync::CancellationToken;

use super::pending::{Site, delete_retired};
use crate::lease::Scope;
use crate::step_error::StepError;

/// We made this file under a claim that is lost since. If no row references it, none ever will: it is garbage, and
/// ours. This is no write on the job's behalf, so it needs no fence; under the file's lock, as everything that retires a copy.
pub(crate) async fn disown_file(
    scope: &Scope<'_>,
    file: FileId,
    intent: &Intent,
    external_file_id: &str,
) -> Result<(), StepError> {
    let provider_type = &scope.provider_type;
    let mut tx = scope.context.pool.begin().await?;
    files::lock_any(&mut tx, file).await?;
    ownership::confirm(&mut tx, provider_type, Kind::File, intent.id, external_file_id).await?;
    if intents::retire_file_for(&mut tx, provider_type, external_file_id, Owner::File(file)).await? {
        tracing::warn!(
            external_file_id,
            "uploaded under a lost claim: it will be deleted"
        );
    }
    tx.commit().await?;
    delete_now(scope).await
}

/// As [`disown_file`], for a store that is not the index's. Under the index's lock: the claim that is live now may be about
/// to adopt it, and a store that is to be deleted is never adopted.
pub(crate) async fn disown_store(
    scope: &Scope<'_>,
    index_id: IndexId,
    intent: &Intent,
    store: &str,
) -> Result<(), StepError> {
    let provider_type = &scope.provider_type;
    let mut tx = scope.context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &scope.domain_id, index_id).await?;
    if index.is_none_or(|index| index.external_id.as_deref() != Some(store)) {
        ownership::confirm(&mut tx, provider_type, Kind::VectorStore, intent.id, store).await?;
        intents::retire_store(&mut tx, provider_type, Some(index_id), store).await?;
        tracing::warn!(store, "made under a lost claim: it will be deleted");
    }
    tx.commit().await?;
    delete_now(scope).await
}

async fn delete_now(scope: &Scope<'_>) -> Result<(), StepError> {
    let site = Site {
        // The claim is lost, and with it went its token.
        stop: &CancellationToken::new(),
        ..Site::from(scope)
    };
    delete_retired(site, 1).await
}
