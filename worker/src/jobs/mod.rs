//! One file per job kind: from the queue's claim to a pipeline and back to an outcome.

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

use apalis_mariadb::{CancelReason, Claim, Outcome};

use crate::halt::Halt;

/// A deletion is never given up: what no attempt will mend by itself, an operator may mend.
fn deletion_outcome(result: Result<(), Halt>, claim: &Claim) -> Outcome {
    match result {
        Ok(()) => Outcome::done(),
        Err(Halt::Stopped) if claim.reason() == Some(CancelReason::Requested) => Outcome::Cancelled,
        Err(Halt::Fail { error }) => {
            tracing::error!(error, "a deletion failed, it will be tried again");
            Outcome::Retry { error, after: None }
        }
        Err(halt) => {
            tracing::info!(%halt, "the deletion pauses");
            halt.into_outcome()
        }
    }
}
