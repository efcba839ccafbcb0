//! `FileDetach`: a deleted file leaves the store of one index.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::FileDetach;
use tracing::Instrument as _;

use super::deletion_outcome;
use crate::context::Context;
use crate::delete;

/// Takes the file out.
pub(crate) async fn handle(
    job: FileDetach,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("file_detach", index.id = %job.index_id, file.id = %job.file_id);
    let work = super::until_cancelled(&claim, delete::file_from_store::run(&job, &claim, &context));
    Ok(deletion_outcome(work.instrument(span).await))
}
