//! Syncs: what a provider has and says goes into our rows. **Nothing here changes anything at a provider.**
//!
//! | module | what |
//! |---|---|
//! | `apply` | a listing against the rows of an index: states of files, the index's status and payload (R-7) |
//! | `lost_store` | an index whose store is gone (R-6.5) |
//! | `index` | the sync of one index: its store is observed once, and what was seen is applied |
//! | `domain` | the sync of a domain: one job per index, some at a time, and what came of them |
//! | `provider` | the sync of a provider: every store and every file, imported or compared (R-6) |
//!
//! What holds for all of them:
//! - A listing is complete or it is nothing: one that fails half-way writes no row and detaches nothing.
//! - Syncs take turns with builds. The sync of one index has the index's concurrency key; the sync of a provider leaves an
//!   index alone whose key somebody has, and observes it again if a build came between observing and writing.
//! - A first check proves nothing: what is missing counts as gone when a second check agrees (`observe::presence`, `observe::missing_files`).
//! - More than a share detached at once is taken for the provider's mistake ([`rag_domain::DeletionThreshold`]).
//! - The caller's changes that no build has carried out yet (a link that is new, one that is gone) are not undone.

mod apply;
pub(crate) mod domain;
pub(crate) mod index;
mod lost_store;
pub(crate) mod provider;

use std::time::Duration;

use apalis_mariadb::QueueError;
use rag_db::{store_polls, syncs};

use crate::context::Context;
use crate::step_error::StepError;

/// A run that was touched since is left for another time.
const OLD_SECONDS: u32 = 3600;
const RUNS: u32 = 100;
/// How often the fleet checks for runs to forget.
pub(crate) const FORGET_EVERY: Duration = Duration::from_mins(10);

/// Forgets the runs whose jobs the queue has forgotten (reports are kept as long as their jobs), and the listings of indexes that
/// are gone.
pub(crate) async fn forget_old_runs(context: &Context) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    store_polls::forget_gone(&mut db).await?;
    let old = syncs::list_old(&mut db, OLD_SECONDS, RUNS).await?;
    for job_id in old {
        let is_known = match job_id.parse() {
            Ok(id) => match context.queue.find_job(id).await {
                // One that cannot be read whole is one.
                Err(QueueError::Unreadable(_)) => true,
                job => job?.is_some(),
            },
            Err(_) => false,
        };
        if !is_known {
            syncs::forget(&mut db, &job_id).await?;
            tracing::info!(job.id = job_id, "forgot what an old sync found");
        }
    }
    Ok(())
}
