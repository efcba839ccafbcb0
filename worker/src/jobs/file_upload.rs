//! `FileUpload`: one file's copy at one provider, without an index.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::FileUpload;
use tracing::Instrument as _;

use crate::context::Context;
use crate::upload::job;

/// Uploads the file, unless the provider has its present contents.
pub(crate) async fn handle(
    job: FileUpload,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("file_upload", file.id = %job.file_id, domain.id = %job.domain_id, provider = job.provider_type);
    let work = async {
        match job::run(&job, &claim, &context).await {
            Ok(()) => Outcome::done(),
            Err(error) => job::ended(&job, &claim, &context, error).await,
        }
    };
    Ok(work.instrument(span).await)
}
