//! `IndexDelete`: what is at the provider is deleted, then the index.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::IndexDelete;
use tracing::Instrument as _;

use super::deletion_outcome;
use crate::context::Context;
use crate::delete;

/// Goes on with a deletion as far as it gets now.
pub(crate) async fn handle(
    job: IndexDelete,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("index_delete", index.id = %job.index_id, domain.id = %job.domain_id);
    let work = super::until_cancelled(&claim, delete::index::run(&job, &claim, &context));
    Ok(deletion_outcome(work.instrument(span).await))
}
