//! One file per job kind: from the queue's claim to the code that does the work, and back to an outcome. The work itself is elsewhere.

pub(crate) mod domain_sync;
pub(crate) mod file_delete;
pub(crate) mod file_detach;
pub(crate) mod file_upload;
pub(crate) mod index_build;
pub(crate) mod index_cancel;
pub(crate) mod index_delete;
pub(crate) mod index_store_delete;
pub(crate) mod index_sync;
pub(crate) mod orphan_reconcile;
pub(crate) mod provider_probe;
pub(crate) mod provider_sync;

use apalis_mariadb::{Claim, Outcome};

use crate::step_error::StepError;

/// Work that is cut off when its claim is cancelled: what it began is found by the next claim.
async fn until_cancelled<T>(
    claim: &Claim,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    tokio::select! {
        result = work => result,
        () = claim.cancellation().cancelled() => Err(StepError::Stopped),
    }
}

/// A deletion is never given up: what no attempt repairs by itself, an operator may repair.
fn deletion_outcome(result: Result<(), StepError>) -> Outcome {
    match result {
        Ok(()) => Outcome::done(),
        Err(StepError::Fail { error }) => {
            tracing::error!(error, "a deletion failed, it will be tried again");
            Outcome::Retry { error, after: None }
        }
        Err(error) => {
            tracing::info!(%error, "the deletion pauses");
            error.into_outcome()
        }
    }
}
