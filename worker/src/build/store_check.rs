//! Whether the store of a build is still there and usable.
//!
//! Reads the index. Writes whether the store was seen expired, and since when it is missed. Calls what `observe::presence`
//! calls. Safe to repeat because it only copies what was seen.

use std::time::Duration;

use rag_db::indexes;
use rag_providers::{ProviderError, VectorStore, VectorStoreStatus};

use super::state::Build;
use crate::observe::presence::{self, Presence};
use crate::observe::{age, is_absent};
use crate::step_error::{StepError, chain};

const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

/// A store that is gone, or has expired, is not made again unless asked for.
pub(super) async fn check(build: &Build<'_>, store: &str) -> Result<VectorStore, StepError> {
    let found = find(build, store).await?;
    let expired = found.status == VectorStoreStatus::Expired;
    if expired || build.index.store_expired_at.is_some() {
        let (mut tx, index) = build.write_index().await?;
        indexes::set_store_expired(&mut tx, index.id, store, expired).await?;
        tx.commit().await?;
    }
    if expired {
        let error = format!(
            "vector store {store} has expired at the provider; build the index with recreate=true to make a new one"
        );
        return Err(StepError::Fail { error });
    }
    Ok(found)
}

async fn find(build: &Build<'_>, store: &str) -> Result<VectorStore, StepError> {
    if is_new(build) {
        return match build.provider.get_vector_store(store).await {
            Ok(found) => Ok(found),
            Err(error) if is_absent(&error) => Err(StepError::snooze(
                NOT_VISIBLE_YET,
                "the provider does not show the new vector store yet",
            )),
            Err(error) => Err(error.into()),
        };
    }
    // Since when it is missed may have been written since this claim began.
    let mut db = build.context.pool.acquire().await?;
    let index = indexes::get(&mut db, &build.domain_id, build.index.id).await?;
    drop(db);
    match presence::of_store(&build.observer(), &index, store, None).await? {
        Presence::There(found) => Ok(*found),
        Presence::CheckAgain(after) => Err(StepError::snooze(
            after,
            format!("the provider did not find vector store {store}: a second check decides"),
        )),
        Presence::Unknown(doubt) => Err(StepError::Retry {
            error: format!("it is not known whether vector store {store} still exists: {doubt}"),
            after: None,
        }),
        Presence::Gone => {
            let error = format!(
                "vector store {store} no longer exists at the provider; sync the index, or build it with recreate=true"
            );
            Err(StepError::Fail { error })
        }
    }
}

/// A call about the store, or about what is in it, found it absent: not visible yet, gone, or something else is absent.
pub(super) async fn missing(build: &Build<'_>, store: &str, error: ProviderError) -> StepError {
    if let Err(error) = check(build, store).await {
        return error;
    }
    // It is there for one call and absent for another.
    StepError::Retry {
        error: format!(
            "the provider finds the vector store for one call and not for another: {}",
            chain(&error)
        ),
        after: None,
    }
}

fn is_new(build: &Build<'_>) -> bool {
    age(build.index.updated_at) < build.provider.capabilities().settle_grace
        && build.index.store_missed_at.is_none()
}
