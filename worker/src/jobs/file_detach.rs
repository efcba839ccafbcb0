//! `FileDetach`: a deleted file leaves the store of one index. A job of its own because it takes turns with the builds of that
//! index, of which the file's own deletion knows nothing.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_db::attachments::{self, Attachment};
use rag_db::{files, indexes};
use rag_jobs::FileDetach;
use tracing::Instrument as _;

use super::deletion_outcome;
use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::{Scope, detach};

/// Takes the file out.
pub(crate) async fn handle(
    job: FileDetach,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("file_detach", index.id = %job.index_id, file.id = %job.file_id);
    let result = run(&job, &claim, &context).instrument(span).await;
    Ok(deletion_outcome(result, &claim))
}

async fn run(job: &FileDetach, claim: &Claim, context: &Context) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    // A deleted index loses its whole store.
    let Some(index) = indexes::find(&mut db, &job.domain_id, job.index_id).await? else {
        return Ok(());
    };
    // Only what is deleted: a file that is merely unlinked leaves with the next build.
    if files::find(&mut db, &job.domain_id, job.file_id).await?.is_some() {
        return Ok(());
    }
    let rows = attachments::list_of_file(&mut db, job.index_id, job.file_id).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let provider = context.connections.open(&mut db, &index.provider_type).await?;
    drop(db);
    let scope = Scope::new(context, claim, provider, &index.provider_type, &job.domain_id);
    let rows: Vec<&Attachment> = rows.iter().collect();
    tokio::select! {
        result = detach(&scope, &rows) => result,
        () = claim.cancellation().cancelled() => Err(Halt::Stopped),
    }
}
