//! `PATCH /admin/providers/{provider_type}/file-uploads/{upload_id}`: an admin sets what our row says of a copy. Nothing
//! is asked of the provider: what follows from it is the next build's, or the next upload's.

use axum::Json;
use axum::extract::State;
use rag_db::uploads::{self, Upload};
use rag_db::{DbError, files};
use rag_domain::{UploadId, UploadStatus};
use serde::Deserialize;
use sqlx::MySqlConnection;
use utoipa::ToSchema;

use super::file_uploads::{FileUploadOut, external_id, require_idle, require_unknown};
use super::require_known;
use crate::http::extract::{Id, JsonBody};
use crate::http::problem::Problem;
use crate::state::App;

/// As long as an error in a row may be, in characters.
const MAX_ERROR_CHARS: usize = 4000;

/// What to set in a copy's row.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileUploadPatch {
    status: NewStatus,
    /// With `uploaded`: the provider's id of the copy, in its Files API. Without it the row's own.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255, example = "file-abc123")]
    external_file_id: Option<String>,
    /// With `failed`: why.
    #[serde(default)]
    #[schema(max_length = 4000)]
    last_error: Option<String>,
}

/// What a copy's status may be set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum NewStatus {
    /// To be uploaded again by the next build or upload.
    Pending,
    /// The provider has it, with the file's present contents.
    Uploaded,
    /// It can't be uploaded: builds count the file as failed until they are asked for anew.
    Failed,
    /// It was deleted at the provider by somebody else; the row stays for the record.
    Deleted,
}

/// Change a copy
///
/// Sets the row; the provider is not asked. `pending` has the file uploaded again by the next build of an index that holds it,
/// or the next upload. `uploaded` takes the copy's contents to be the file's present ones. A copy that another one replaces,
/// or that is set to `deleted`, stays at the provider until its indexes are built: then it leaves their vector stores.
#[utoipa::path(patch, path = "/admin/providers/{provider_type}/file-uploads/{upload_id}", tag = "admin: providers",
    params(
        ("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("upload_id" = uuid::Uuid, Path, description = "The copy's row")),
    request_body = FileUploadPatch,
    responses(
        (status = 200, description = "The changed copy", body = FileUploadOut),
        (status = 404, description = "No such provider, or no such row"),
        (status = 409, description = "It is being uploaded, its file is gone, or the id is another file's copy"),
    ))]
pub(super) async fn update_file_upload(
    State(app): State<App>,
    Id((provider_type, id)): Id<(String, UploadId)>,
    JsonBody(patch): JsonBody<FileUploadPatch>,
) -> Result<Json<FileUploadOut>, Problem> {
    require_known(&app, &provider_type)?;
    require_fitting(&patch)?;
    let mut tx = app.begin().await?;
    // The lock order: the file, then its copies.
    let file_id = uploads::get(&mut tx, &provider_type, id).await?.local_file_id;
    let file = match files::lock_of_any_domain(&mut tx, file_id).await {
        Ok(file) => file,
        Err(DbError::NotFound(_)) => return Err(Problem::conflict("the file of this copy is gone")),
        Err(error) => return Err(error.into()),
    };
    let row = uploads::lock(&mut tx, &provider_type, id).await?;
    require_idle(&mut tx, &row).await?;
    set(&mut tx, &row, &file.sha256, &patch).await?;
    files::note_change(&mut tx, file_id).await?;
    let row = uploads::get(&mut tx, &provider_type, id).await?;
    tx.commit().await?;
    Ok(Json(row.into()))
}

fn require_fitting(patch: &FileUploadPatch) -> Result<(), Problem> {
    if patch.external_file_id.is_some() && patch.status != NewStatus::Uploaded {
        return Err(Problem::invalid_field("external_file_id", "goes with `uploaded`"));
    }
    if patch.last_error.is_some() && patch.status != NewStatus::Failed {
        return Err(Problem::invalid_field("last_error", "goes with `failed`"));
    }
    match &patch.last_error {
        Some(text) if text.chars().count() > MAX_ERROR_CHARS => Err(Problem::invalid_field(
            "last_error",
            format!("must have at most {MAX_ERROR_CHARS} characters"),
        )),
        _ => Ok(()),
    }
}

/// Every status but `deleted` is reached by way of `pending`, as always.
async fn set(
    tx: &mut MySqlConnection,
    row: &Upload,
    sha256: &str,
    patch: &FileUploadPatch,
) -> Result<(), Problem> {
    let (provider, file) = (row.provider_id.as_str(), row.local_file_id);
    match patch.status {
        NewStatus::Pending => {
            uploads::mark_pending(tx, provider, file, &row.content_sha256).await?;
        }
        NewStatus::Uploaded => {
            let copy = copy_to_be(tx, row, patch.external_file_id.as_deref()).await?;
            uploads::mark_pending(tx, provider, file, sha256).await?;
            uploads::set_copy(tx, provider, file, sha256, &copy).await?;
        }
        NewStatus::Failed => {
            let error = patch.last_error.as_deref().unwrap_or("set by an admin");
            uploads::mark_pending(tx, provider, file, sha256).await?;
            uploads::mark_failed(tx, provider, file, sha256, (uploads::SET_BY_ADMIN, error)).await?;
        }
        NewStatus::Deleted if row.status == UploadStatus::Deleted => {}
        NewStatus::Deleted => {
            let Some(copy) = row.files_api_id.as_deref().or(row.external_file_id.as_deref()) else {
                return Err(Problem::conflict(
                    "there never was a copy: delete the row instead",
                ));
            };
            uploads::mark_deleted(tx, provider, row.id).await?;
            uploads::confirm_deleted(tx, provider, copy).await?;
        }
    }
    Ok(())
}

/// In the Files API.
async fn copy_to_be(tx: &mut MySqlConnection, row: &Upload, given: Option<&str>) -> Result<String, Problem> {
    let own = row.files_api_id.as_deref().or(row.external_file_id.as_deref());
    let copy = match given {
        Some(given) => external_id(given)?,
        None => {
            own.ok_or_else(|| Problem::invalid_field("external_file_id", "is needed: the row names no copy"))?
        }
    };
    if own != Some(copy) || row.status == UploadStatus::Deleted {
        require_unknown(tx, &row.provider_id, copy).await?;
    }
    Ok(copy.to_owned())
}
