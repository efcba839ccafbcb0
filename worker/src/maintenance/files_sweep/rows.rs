//! The other way round: files whose contents are missing. They are told, and nothing becomes of their rows: contents can be
//! put back from a backup, and a caller may send them again.

use rag_db::files_sweep;
use rag_domain::FileId;

use super::report::Report;
use crate::context::Context;
use crate::step_error::StepError;

/// Rows that are checked together.
const PAGE: u32 = 500;

pub(super) async fn count_missing(context: &Context, report: &mut Report) -> Result<(), StepError> {
    let mut after = String::new();
    loop {
        let mut db = context.pool.acquire().await?;
        let page = files_sweep::list_paths(&mut db, &after, PAGE).await?;
        drop(db);
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = last.to_string();
        let missing = missing_of(context, &page).await?;
        if missing.is_empty() {
            continue;
        }
        // Replaced or deleted meanwhile: their contents are elsewhere, or need not be.
        let ids: Vec<FileId> = missing.iter().map(|(id, _)| *id).collect();
        let now = files_sweep::list_paths_of(&mut *context.pool.acquire().await?, &ids).await?;
        for row in now.into_iter().filter(|row| missing.contains(row)) {
            report.missing(row.0, &row.1);
        }
    }
}

async fn missing_of(
    context: &Context,
    page: &[(FileId, String)],
) -> Result<Vec<(FileId, String)>, StepError> {
    let paths = page.iter().map(|(_, path)| path.clone()).collect();
    let missing = context
        .files
        .without_contents(paths)
        .await
        .map_err(|error| StepError::retry(&error))?;
    let is_missing = |row: &&(FileId, String)| missing.contains(&row.1);
    Ok(page.iter().filter(is_missing).cloned().collect())
}
