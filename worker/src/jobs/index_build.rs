//! `IndexBuild`: everything between "please index this" and `done` or `failed`.

use std::convert::Infallible;
use std::time::Duration;

use apalis_core::task::data::Data;
use apalis_mariadb::{CancelReason, Claim, Outcome};
use rag_db::{builds, indexes};
use rag_domain::IndexingStatus;
use rag_jobs::IndexBuild;
use tracing::Instrument as _;

use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::Build;

const LAST_WORDS: Duration = Duration::from_secs(3);

/// Runs a build as far as it goes now.
pub(crate) async fn handle(
    job: IndexBuild,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    // The queue's own span around it has the job's id and attempt.
    let span = tracing::info_span!("index_build", index.id = %job.index_id, domain.id = %job.domain_id);
    Ok(run(&job, &claim, &context).instrument(span).await)
}

async fn run(job: &IndexBuild, claim: &Claim, context: &Context) -> Outcome {
    let halt = match Build::resume(context, claim, job).await {
        Ok(Some(mut build)) => match build.run().await {
            // The last step has completed the job in its own transaction; this is for the log of the queue.
            Ok(()) => return Outcome::done(),
            Err(halt) => {
                if matches!(halt, Halt::Stopped) && claim.reason() == Some(CancelReason::Requested) {
                    stop_indexing(&build).await;
                }
                halt
            }
        },
        // A claim before this one gave the build up, and did not live to say so: one that finishes a build ends the job in
        // the same transaction.
        Ok(None) => {
            return Outcome::Fail {
                error: "the build had failed when its worker was lost".to_owned(),
            };
        }
        Err(halt) => halt,
    };
    match halt {
        Halt::Fail { error } => give_up(job, claim, context, error).await,
        Halt::Retry { error, .. } if claim.is_last_attempt() => give_up(job, claim, context, error).await,
        Halt::Stopped if claim.reason() == Some(CancelReason::Requested) => {
            match record_failure(job, claim, context, "the build was cancelled").await {
                Ok(()) => Outcome::Cancelled,
                Err(halt) => halt.into_outcome(),
            }
        }
        halt => {
            tracing::info!(%halt, "the build pauses");
            if let Some(error) = halt.error()
                && let Err(halt) = note(job, claim, context, error).await
            {
                tracing::debug!(%halt, "why the build pauses could not be written down");
            }
            halt.into_outcome()
        }
    }
}

/// The build is cancelled: the provider need not go on either. It is told within a moment or not at all, since somebody waits
/// for the end of the job.
async fn stop_indexing(build: &Build<'_>) {
    match tokio::time::timeout(LAST_WORDS, build.stop_indexing()).await {
        Ok(Ok(())) => {}
        Ok(Err(halt)) => tracing::warn!(%halt, "the provider was not told to stop indexing"),
        Err(_) => tracing::warn!("the provider was not told to stop indexing in time"),
    }
}

/// The build goes on later; until then its index says what was met.
async fn note(job: &IndexBuild, claim: &Claim, context: &Context, error: &str) -> Result<(), Halt> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    if let Some(index) = index {
        indexes::note_build_error(&mut tx, index.id, Some(error)).await?;
    }
    Ok(tx.commit().await?)
}

/// No attempt will help: index and build say so before the job does.
async fn give_up(job: &IndexBuild, claim: &Claim, context: &Context, error: String) -> Outcome {
    tracing::error!(error, "the build failed");
    match record_failure(job, claim, context, &error).await {
        Ok(()) => Outcome::Fail { error },
        Err(halt) => halt.into_outcome(),
    }
}

/// Ends the build as failed, unless index or build are gone or ended already.
async fn record_failure(job: &IndexBuild, claim: &Claim, context: &Context, error: &str) -> Result<(), Halt> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    let index = index.filter(|index| index.indexing_status == IndexingStatus::InProgress);
    if let Some(index) = &index {
        let error = format!("{error}{}", builds::what_stays(&mut tx, index).await?);
        indexes::mark_built(&mut tx, job.index_id, IndexingStatus::Failed, Some(&error)).await?;
    }
    let job_id = claim.job_id().to_string();
    if builds::find(&mut tx, &job_id)
        .await?
        .is_some_and(|build| build.finished_at.is_none())
    {
        builds::finish(&mut tx, &job_id).await?;
    }
    if let Some(index) = &index {
        let (copies, attachments) = builds::give_up_rest(&mut tx, index, error).await?;
        tracing::info!(copies, attachments, "what the build had not begun is given up");
    }
    Ok(tx.commit().await?)
}
