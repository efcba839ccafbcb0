//! What a provider has: the only code that lists and gets stores, their files and batches, for builds, syncs, cancels, deletions and the search for orphans.
//! Nothing here changes anything at a provider.
//!
//! | module | what |
//! |---|---|
//! | `calls` | turns for calls, where a sync makes many at once |
//! | `listing` | a store's files, page by page or all of them |
//! | `store_file` | what rows keep of a file that was seen |
//! | `presence` | whether a store, or a file in it, is there, gone, or not known to be either |
//! | `missing_files` | whether files that a listing lacks have left the store |
//! | `batches` | whether a batch of ours still runs |
//! | `tagged_stores` | stores that carry the tag of an intent of ours |
//! | `uploaded_copy` | the file that an unanswered upload left, if its bytes prove it |
//!
//! What is compared with what, and what follows, is pure and in `rag-domain` ([`rag_domain::StoreDiff`],
//! [`rag_domain::Evidence`]).

pub(crate) mod batches;
pub(crate) mod calls;
pub(crate) mod listing;
pub(crate) mod missing_files;
pub(crate) mod presence;
pub(crate) mod store_file;
pub(crate) mod tagged_stores;
pub(crate) mod uploaded_copy;

use std::time::Duration;

use apalis_mariadb::Claim;
use chrono::{DateTime, Utc};
use rag_connections::Learned;
use rag_providers::{Ability, ErrorKind, Provider, ProviderError};

use crate::context::Context;
use crate::step_error::StepError;

/// On whose behalf a provider is observed, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Observer<'a> {
    pub(crate) context: &'a Context,
    pub(crate) claim: &'a Claim,
    pub(crate) provider: &'a dyn Provider,
    pub(crate) learned: &'a Learned,
}

impl Observer<'_> {
    /// How far apart the two checks are by which something counts as gone.
    pub(crate) fn apart(&self) -> Duration {
        self.context.sync.missing_confirm
    }

    /// Writes down what the connection was seen to do, or not to do. Not fenced: it is the connection's and no job's, and what
    /// was seen was seen, also if the claim is lost by now.
    pub(crate) async fn learn(&self, ability: Ability, holds: bool, how: &str) -> Result<(), StepError> {
        if self.learned.holds(ability) == Some(holds) {
            return Ok(());
        }
        let mut db = self.context.pool.acquire().await?;
        Ok(self.learned.learn(&mut db, ability, holds, how).await?)
    }
}

/// The provider answered that it does not have the thing, or not the route: whether either is true is another question.
pub(crate) fn is_absent(error: &ProviderError) -> bool {
    error.is_absent() || error.kind == ErrorKind::Unsupported
}

/// So long ago; a time ahead of our clock is now.
pub(crate) fn age(at: DateTime<Utc>) -> Duration {
    (Utc::now() - at).to_std().unwrap_or_default()
}
