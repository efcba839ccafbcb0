//! Step 5: what no longer belongs in the store leaves it, and what nobody needs any more is deleted at the provider.
//!
//! Reads composition and attachments. Writes attachments (`detaching` is the intent) and deletion intents. Calls detach,
//! delete of files and of stores. Safe to repeat because a detach or a deletion of something absent is a success.

use super::snapshot::Pages;
use super::state::Build;
use super::step::Step;
use crate::delete::abandoned_uploads;
use crate::delete::detach::detach;
use crate::delete::pending::{Site, delete_retired};
use crate::step_error::StepError;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    // The uploads have walked all files a moment ago; where they saw nothing that leaves, another walk would see nothing.
    if build.leaving {
        detach_leaving(build).await?;
    }
    let site = Site::from(&build.scope);
    abandoned_uploads::sweep(build.context, site).await?;
    delete_retired(site, 1).await?;
    Ok(Step::Verify)
}

async fn detach_leaving(build: &Build<'_>) -> Result<(), StepError> {
    let mut pages = Pages::new(&build.job.domain_id, build.index.id);
    loop {
        let mut db = build.context.pool.acquire().await?;
        let page = pages.next(&mut db).await?;
        drop(db);
        let Some(page) = page else { return Ok(()) };
        let leaving = page.leaving();
        if leaving.is_empty() {
            continue;
        }
        let mut tx = build.write().await?;
        build.doubt_store(&mut tx).await?;
        tx.commit().await?;
        detach(build, &leaving).await?;
    }
}
