//! `IndexDelete`: what is at the provider goes, then the index.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::IndexDelete;
use tracing::Instrument as _;

use super::deletion_outcome;
use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::DeletedIndex;

/// Goes on with a deletion as far as it gets now.
pub(crate) async fn handle(
    job: IndexDelete,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("index_delete", index.id = %job.index_id, domain.id = %job.domain_id);
    let result = run(&job, &claim, &context).instrument(span).await;
    Ok(deletion_outcome(result, &claim))
}

async fn run(job: &IndexDelete, claim: &Claim, context: &Context) -> Result<(), Halt> {
    match DeletedIndex::find(context, claim, job.index_id).await? {
        Some(deleted) => tokio::select! {
            result = deleted.run() => result,
            () = claim.cancellation().cancelled() => Err(Halt::Stopped),
        },
        // An earlier claim, or an admin, has ended it.
        None => Ok(()),
    }
}
