//! Writes what was seen of the files that a build waits for.

use rag_db::attachments::Attachment;
use rag_db::{indexes, uploads};
use rag_domain::AttachmentState;

use super::state::Build;
use crate::observe::store_file::{SeenFile, write_seen};
use crate::step_error::StepError;

/// Copies what was seen of these files into their rows.
pub(super) async fn write(build: &Build<'_>, seen: &[(&Attachment, &SeenFile)]) -> Result<(), StepError> {
    let (mut tx, index) = build.write_index().await?;
    indexes::set_provider_seen(&mut tx, index.id).await?;
    if seen
        .iter()
        .any(|(_, file)| file.state != AttachmentState::InProgress)
    {
        build.claim.progress(&mut tx).await?;
    }
    write_seen(&mut tx, seen).await?;
    if build.provider.capabilities().external_file_id_is_store_file {
        for (row, file) in seen
            .iter()
            .filter(|(row, file)| file.store_file_id != row.external_file_id)
        {
            let provider = &build.index.provider_type;
            uploads::set_store_file_id(&mut tx, provider, &row.external_file_id, &file.store_file_id).await?;
        }
    }
    Ok(tx.commit().await?)
}

/// Copies what was seen of a single file.
pub(super) async fn write_one(build: &Build<'_>, row: &Attachment, file: &SeenFile) -> Result<(), StepError> {
    write(build, &[(row, file)]).await
}
