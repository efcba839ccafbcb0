//! Removing a file, as long as nothing needs it.

use axum::extract::State;
use http::StatusCode;
use rag_db::{files, index_files, intents, uploads};
use rag_domain::{FileId, UploadStatus};

use crate::extract::{Domain, Id};
use crate::problem::Problem;
use crate::state::App;

/// Delete a file
///
/// Only a file that no index holds and that has no copy at a provider: 409 otherwise.
#[utoipa::path(delete, path = "/files/{file_id}", tag = "files",
    params(("file_id" = uuid::Uuid, Path, description = "The file")),
    responses(
        (status = 204, description = "Deleted, with its contents"),
        (status = 404, description = "No such file in this domain"),
        (status = 409, description = "An index holds it, or a provider has a copy or is getting one"),
    ))]
pub(super) async fn delete_file(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(file_id): Id<FileId>,
) -> Result<StatusCode, Problem> {
    let mut tx = app.begin().await?;
    // Links are made under the same lock, so none appears between the look and the deletion.
    let file = files::lock(&mut tx, &domain, file_id).await?;
    let indexes = index_files::list_indexes_of(&mut tx, file_id).await?;
    if let Some(index) = indexes.first() {
        return Err(Problem::conflict(format!(
            "{} index(es) hold this file, {index} among them",
            indexes.len()
        )));
    }
    let uploads = uploads::list_of_file(&mut tx, file_id).await?;
    let copy = uploads
        .iter()
        .find(|upload| upload.status != UploadStatus::Deleted && upload.external_file_id.is_some());
    if let Some(copy) = copy {
        return Err(Problem::conflict(format!(
            "provider {} has a copy of this file",
            copy.provider_id
        )));
    }
    // Uploads are declared under the same lock.
    if intents::is_upload_open(&mut tx, file_id).await? {
        return Err(Problem::conflict(
            "the file is being uploaded to a provider, or an upload broke off and is not cleaned up yet",
        ));
    }
    uploads::delete_of_file(&mut tx, file_id).await?;
    files::delete(&mut tx, &domain, file_id).await?;
    tx.commit().await?;
    if let Err(error) = app.files.delete(&file.local_path).await {
        // The file is gone for every reader; only disk space is lost.
        tracing::warn!(file.id = %file_id, path = file.local_path, %error, "contents of a deleted file were left behind");
    }
    Ok(StatusCode::NO_CONTENT)
}
