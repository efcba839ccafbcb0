//! `IndexBuild`: everything between "please index this" and `done` or `failed`.

use std::convert::Infallible;
use std::time::Duration;

use apalis_core::task::data::Data;
use apalis_mariadb::{CancelReason, Claim, Outcome};
use rag_jobs::IndexBuild;
use tracing::Instrument as _;

use crate::build::{self, Build, failure, stop_build_indexing};
use crate::context::Context;
use crate::step_error::StepError;

const STOP_GRACE: Duration = Duration::from_secs(3);

/// Runs a build as far as it goes now.
pub(crate) async fn handle(
    job: IndexBuild,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let _slot = context.build_slots.try_acquire();
    // The queue's own span around it has the job's id and attempt.
    let span = tracing::info_span!("index_build", index.id = %job.index_id, domain.id = %job.domain_id);
    Ok(run(&job, &claim, &context).instrument(span).await)
}

async fn run(job: &IndexBuild, claim: &Claim, context: &Context) -> Outcome {
    let error = match Build::resume(context, claim, job).await {
        Ok(Some(mut build)) => match build::run(&mut build).await {
            // The last step has completed the job in its own transaction; this is for the log of the queue.
            Ok(()) => return Outcome::done(),
            Err(error) => {
                if matches!(error, StepError::Stopped) && claim.reason() == Some(CancelReason::Requested) {
                    stop_indexing(&build).await;
                }
                error
            }
        },
        // A claim before this one gave the build up, and did not live to say so: one that finishes a build ends the job in
        // the same transaction.
        Ok(None) => {
            return Outcome::Fail {
                error: "the build had failed when its worker was lost".to_owned(),
            };
        }
        Err(error) => error,
    };
    match error {
        StepError::Fail { error } => give_up(job, claim, context, error).await,
        StepError::Retry { error, .. } if claim.is_last_attempt() => {
            give_up(job, claim, context, error).await
        }
        StepError::Stopped if claim.reason() == Some(CancelReason::Requested) => {
            match failure::record(job, claim, context, "the build was cancelled").await {
                Ok(()) => Outcome::Cancelled,
                Err(error) => error.into_outcome(),
            }
        }
        error => {
            tracing::info!(%error, "the build pauses");
            if let Some(error) = error.error()
                && let Err(error) = failure::note_pause(job, claim, context, error).await
            {
                tracing::debug!(%error, "why the build pauses could not be written down");
            }
            error.into_outcome()
        }
    }
}

/// The build is cancelled: the provider need not go on either. It is told within a moment or not at all, since somebody waits
/// for the end of the job.
async fn stop_indexing(build: &Build<'_>) {
    match tokio::time::timeout(STOP_GRACE, stop_build_indexing(build)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the provider was not told to stop indexing"),
        Err(_) => tracing::warn!("the provider was not told to stop indexing in time"),
    }
}

/// No attempt will help: index and build say so before the job does.
async fn give_up(job: &IndexBuild, claim: &Claim, context: &Context, error: String) -> Outcome {
    tracing::error!(error, "the build failed");
    match failure::record(job, claim, context, &error).await {
        Ok(()) => Outcome::Fail { error },
        Err(error) => error.into_outcome(),
    }
}
