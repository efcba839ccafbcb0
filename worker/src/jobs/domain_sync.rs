//! `DomainSync`: all indexes of a domain, some at a time.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::DomainSync;
use tracing::Instrument as _;

use crate::context::Context;
use crate::step_error::StepError;
use crate::sync;

pub(crate) async fn handle(
    job: DomainSync,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("domain_sync", domain.id = %job.domain_id);
    let result = sync::domain::run(&context, &claim, &job).instrument(span).await;
    Ok(match result {
        // The job was completed with the last thing that was written.
        Ok(()) => Outcome::done(),
        Err(error @ (StepError::Retry { .. } | StepError::Fail { .. })) => {
            tracing::warn!(%error, "the sync of a domain stops");
            error.into_outcome()
        }
        Err(error) => error.into_outcome(),
    })
}
