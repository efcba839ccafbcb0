//! `FileDelete`: a deleted file is removed from every provider and from disk.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::FileDelete;
use tracing::Instrument as _;

use super::deletion_outcome;
use crate::context::Context;
use crate::delete;

/// Goes on with a deletion as far as it gets now.
pub(crate) async fn handle(
    job: FileDelete,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("file_delete", file.id = %job.file_id, domain.id = %job.domain_id);
    let work = super::until_cancelled(&claim, delete::file::run(&job, &claim, &context));
    Ok(deletion_outcome(work.instrument(span).await))
}
