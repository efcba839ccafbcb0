//! Whether this worker sees the installation's files: by what FILES_ROOT is recognised, and whether it can be read. The API
//! takes a folder into use; a worker only compares.

use rag_db::files_root;
use rag_files::FileStore;
use sqlx::MySqlPool;
use uuid::Uuid;

use crate::step_error::StepError;

/// Learns what the root has to show, once the API has said it. Until then no file counts as lost.
pub(crate) async fn expect(pool: &MySqlPool, files: &FileStore) -> Result<(), StepError> {
    let marker = files_root::find(&mut *pool.acquire().await?).await?;
    match marker.as_deref().map(Uuid::try_parse) {
        Some(Ok(marker)) => files.expect(marker),
        Some(Err(_)) => files.distrust("the database holds no valid marker of it"),
        None => files.distrust("no folder was taken into use yet, which rag-api does when it starts"),
    }
    Ok(())
}

/// Checks whether the root, and what could not be read last, can be read now.
pub(crate) async fn check(pool: &MySqlPool, files: &FileStore) -> Result<(), StepError> {
    // Also what was known may have changed: an operator has put another folder into its place.
    if !files.is_expectation_known() || files.failure().is_some() {
        expect(pool, files).await?;
    }
    // What comes of it is in `trouble`, for readiness and metrics.
    let _noted = files.probe().await;
    Ok(())
}
