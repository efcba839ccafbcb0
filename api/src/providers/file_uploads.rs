//! `/admin/providers/{provider_type}/file-uploads`: what we know of our files' copies at a provider. These are
//! rows; what their change asks of the provider, the worker does.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use rag_db::uploads::{self, Upload};
use rag_db::{DbError, files, intents};
use rag_domain::{FileId, UploadId, UploadStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::MySqlConnection;
use utoipa::{IntoParams, ToSchema};

use super::require_known;
use crate::http::extract::{Id, JsonBody, Params};
use crate::http::paging::{Page, PageParams};
use crate::http::problem::Problem;
use crate::openapi::schemas::UploadStatusSchema;
use crate::state::App;

/// A file's copy at a provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileUpload)]
pub(crate) struct FileUploadOut {
    #[schema(value_type = uuid::Uuid)]
    id: UploadId,
    #[schema(example = "openai")]
    provider_type: String,
    #[schema(value_type = uuid::Uuid)]
    local_file_id: FileId,
    /// What the provider calls it; where files go by another name in vector stores (yandex), that name.
    external_file_id: Option<String>,
    external_uploaded_at: Option<DateTime<Utc>>,
    /// Of the contents that were uploaded, or are to be.
    content_sha256: String,
    /// pending | uploaded | failed | deleted. One that is deleted is a record of a copy that was: a later upload makes it
    /// pending again, and it is forgotten a while after its file is gone.
    #[schema(example = "uploaded")]
    status: &'static str,
    /// When the provider confirmed that a deleted copy is gone; null: it has not, and `last_error` may say why.
    deleted_at: Option<DateTime<Utc>>,
    /// What kind of failure `last_error` is: a word of the provider layer (`unavailable`, `invalid_request`, …), or
    /// `local_corruption` and `contents_missing` (the bytes that we hold), `given_up` or `set_by_admin`.
    error_code: Option<String>,
    /// Why the last try failed; of a pending copy, a try that is made again.
    last_error: Option<String>,
    /// The file as the provider described it.
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    raw_provider_json: Option<Value>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Upload> for FileUploadOut {
    fn from(row: Upload) -> Self {
        Self {
            id: row.id,
            provider_type: row.provider_id,
            local_file_id: row.local_file_id,
            external_file_id: row.external_file_id,
            external_uploaded_at: row.external_uploaded_at,
            content_sha256: row.content_sha256,
            status: row.status.as_str(),
            error_code: row.error_code,
            deleted_at: row.deleted_at,
            last_error: row.last_error,
            raw_provider_json: row.raw_provider_json,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A copy that the provider has already.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFileUpload)]
pub(super) struct FileUploadIn {
    #[schema(value_type = uuid::Uuid)]
    local_file_id: FileId,
    /// The provider's id of the file, in its Files API.
    #[schema(min_length = 1, max_length = 255, example = "file-abc123")]
    external_file_id: String,
}

/// Which rows to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only rows with this status. Without it all but the deleted ones.
    #[param(inline, value_type = Option<UploadStatusSchema>)]
    status: Option<UploadStatus>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List copies of files
#[utoipa::path(get, path = "/admin/providers/{provider_type}/file-uploads", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"), ListParams),
    responses(
        (status = 200, description = "One page, newest first", body = Page<FileUploadOut>),
        (status = 400, description = "status, limit or cursor cannot be read"),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn list_file_uploads(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<FileUploadOut>>, Problem> {
    require_known(&app, &provider_type)?;
    let (limit, cursor) = (params.limit, params.cursor);
    let page = PageParams { limit, cursor }.check()?;
    let mut connection = app.connection().await?;
    let rows = uploads::list(
        &mut connection,
        &provider_type,
        params.status,
        page.before,
        page.limit + 1,
    )
    .await?;
    let position = |row: &Upload| (row.created_at, row.id);
    Ok(Json(Page::of(rows, page.limit, position, FileUploadOut::from)))
}

/// Make a copy known
///
/// For a file that the provider has already; nothing is uploaded. Its present contents are taken to be the file's.
#[utoipa::path(post, path = "/admin/providers/{provider_type}/file-uploads", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    request_body = FileUploadIn,
    responses(
        (status = 201, description = "Known from now on", body = FileUploadOut),
        (status = 404, description = "No such provider, or no such file"),
        (status = 409, description = "The file has a row at this provider already, or the copy is another file's"),
    ))]
pub(super) async fn create_file_upload(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    JsonBody(body): JsonBody<FileUploadIn>,
) -> Result<(StatusCode, Json<FileUploadOut>), Problem> {
    require_known(&app, &provider_type)?;
    let external = external_id(&body.external_file_id)?;
    let mut tx = app.begin().await?;
    let file = files::lock_of_any_domain(&mut tx, body.local_file_id).await?;
    require_unknown(&mut tx, &provider_type, external).await?;
    let id = uploads::insert_uploaded(&mut tx, &provider_type, file.id, &file.sha256, external).await?;
    let row = uploads::lock(&mut tx, &provider_type, id).await?;
    files::note_change(&mut tx, file.id).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// Read a copy
#[utoipa::path(get, path = "/admin/providers/{provider_type}/file-uploads/{upload_id}", tag = "admin: providers",
    params(
        ("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("upload_id" = uuid::Uuid, Path, description = "The copy's row")),
    responses(
        (status = 200, description = "The copy", body = FileUploadOut),
        (status = 404, description = "No such provider, or no such row"),
    ))]
pub(super) async fn get_file_upload(
    State(app): State<App>,
    Id((provider_type, id)): Id<(String, UploadId)>,
) -> Result<Json<FileUploadOut>, Problem> {
    require_known(&app, &provider_type)?;
    let mut connection = app.connection().await?;
    Ok(Json(
        uploads::get(&mut connection, &provider_type, id).await?.into(),
    ))
}

/// Delete a copy
///
/// Its row becomes a record (`deleted`) at once, a worker deletes the file at the provider soon after, and `deleted_at` says
/// when that is done. A row without a copy goes, and so does a record.
#[utoipa::path(delete, path = "/admin/providers/{provider_type}/file-uploads/{upload_id}", tag = "admin: providers",
    params(
        ("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("upload_id" = uuid::Uuid, Path, description = "The copy's row")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such provider, or no such row"),
        (status = 409, description = "It is being uploaded, or is attached to a vector store"),
    ))]
pub(super) async fn delete_file_upload(
    State(app): State<App>,
    Id((provider_type, id)): Id<(String, UploadId)>,
) -> Result<StatusCode, Problem> {
    require_known(&app, &provider_type)?;
    let mut tx = app.begin().await?;
    let row = uploads::lock(&mut tx, &provider_type, id).await?;
    require_idle(&mut tx, &row).await?;
    uploads::mark_deleted(&mut tx, &provider_type, id).await?;
    if row.status != UploadStatus::Deleted
        && let Some(copy) = row.files_api_id.or(row.external_file_id)
        && !intents::retire_file(&mut tx, &provider_type, &copy).await?
        && intents::is_file_in_use(&mut tx, &provider_type, &copy).await?
    {
        return Err(Problem::conflict(
            "the copy is attached to a vector store: unlink the file and build the index first",
        ));
    }
    files::note_change(&mut tx, row.local_file_id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What may not change while the file is on its way.
pub(super) async fn require_idle(db: &mut MySqlConnection, row: &Upload) -> Result<(), Problem> {
    let busy: Result<bool, DbError> = intents::is_uploading(db, &row.provider_id, row.local_file_id).await;
    if busy? {
        return Err(Problem::conflict(
            "the file is being uploaded: try again when that is over",
        ));
    }
    Ok(())
}

/// An id as an admin gives it.
pub(super) fn external_id(text: &str) -> Result<&str, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > 255 {
        return Err(Problem::invalid_field(
            "external_file_id",
            "must have 1 to 255 bytes",
        ));
    }
    Ok(text)
}

/// A copy belongs to one file.
pub(super) async fn require_unknown(
    db: &mut MySqlConnection,
    provider_type: &str,
    external: &str,
) -> Result<(), Problem> {
    if intents::is_file_referenced(db, provider_type, external).await? {
        return Err(Problem::conflict(format!(
            "{external} is another file's copy, or about to be deleted"
        )));
    }
    Ok(())
}
