//! `IndexStoreDelete`: an index's store is deleted, and the index stays.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::IndexStoreDelete;
use tracing::Instrument as _;

use super::deletion_outcome;
use crate::context::Context;
use crate::delete;

/// Goes on with a deletion as far as it gets now.
pub(crate) async fn handle(
    job: IndexStoreDelete,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span =
        tracing::info_span!("index_store_delete", index.id = %job.index_id, domain.id = %job.domain_id);
    let work = super::until_cancelled(&claim, delete::store::run(&job, &claim, &context));
    Ok(deletion_outcome(work.instrument(span).await))
}
