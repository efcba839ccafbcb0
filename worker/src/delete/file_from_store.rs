//! A deleted file leaves the store of one index. It has a job of its own because it takes turns with the builds of that index,
//! of which the file's own deletion knows nothing.
//!
//! Reads the index and its attachments. Writes and calls what `detach` does.

use apalis_mariadb::Claim;
use rag_db::attachments::{self, Attachment};
use rag_db::{files, indexes};
use rag_jobs::FileDetach;

use super::detach::detach;
use crate::context::Context;
use crate::lease::Scope;
use crate::step_error::StepError;

/// Takes the file out.
pub(crate) async fn run(job: &FileDetach, claim: &Claim, context: &Context) -> Result<(), StepError> {
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
    detach(&scope, &rows).await
}
