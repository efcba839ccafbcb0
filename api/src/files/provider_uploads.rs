//! `/files/{file_id}/provider-uploads` (R-B4): a file's copies at providers, with or without an index.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use rag_db::{connections, files, uploads};
use rag_domain::FileId;
use rag_jobs::FileUpload;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::RequestId;
use crate::http::extract::{Domain, Id, Prefer, PreferHeader};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::providers::FileUploadOut;
use crate::state::App;

/// A file's copies.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileUploads)]
pub(super) struct FileUploadsOut {
    /// At most one per provider.
    items: Vec<FileUploadOut>,
}

/// A copy, and how it came to be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UploadedFile)]
pub(super) struct UploadedOut {
    /// Null if the job ended before it came to that.
    upload: Option<FileUploadOut>,
    /// The job, which is over.
    job: JobOut,
}

/// List a file's copies at providers
#[utoipa::path(get, path = "/files/{file_id}/provider-uploads", tag = "files",
    params(("file_id" = uuid::Uuid, Path, description = "The file")),
    responses(
        (status = 200, description = "Its copies", body = FileUploadsOut),
        (status = 404, description = "No such file in this domain"),
    ))]
pub(super) async fn list_provider_uploads(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(file_id): Id<FileId>,
) -> Result<Json<FileUploadsOut>, Problem> {
    let mut connection = app.connection().await?;
    files::get(&mut connection, &domain, file_id).await?;
    let rows = uploads::list_of_file(&mut connection, file_id).await?;
    Ok(Json(FileUploadsOut {
        items: rows.into_iter().map(FileUploadOut::from).collect(),
    }))
}

/// Read a file's copy at a provider
#[utoipa::path(get, path = "/files/{file_id}/provider-uploads/{provider_type}", tag = "files",
    params(
        ("file_id" = uuid::Uuid, Path, description = "The file"),
        ("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 200, description = "The copy", body = FileUploadOut),
        (status = 404, description = "No such file in this domain, or the provider has none of it"),
    ))]
pub(super) async fn get_provider_upload(
    State(app): State<App>,
    Domain(domain): Domain,
    Id((file_id, provider_type)): Id<(FileId, String)>,
) -> Result<Json<FileUploadOut>, Problem> {
    if !app.connections.registry().contains(&provider_type) {
        return Err(Problem::not_found("provider type"));
    }
    let mut connection = app.connection().await?;
    files::get(&mut connection, &domain, file_id).await?;
    let row = uploads::find(&mut connection, &provider_type, file_id).await?;
    row.map(|row| Json(row.into()))
        .ok_or_else(|| Problem::not_found("copy at this provider"))
}

/// Upload a file to a provider
///
/// By a job, and only if the provider does not have the file's present contents. While such a job is active, another call
/// answers the active one. With `Prefer: wait=N` the answer comes when the job is over: 200 with the copy as it is then.
#[utoipa::path(post, path = "/files/{file_id}/provider-uploads/{provider_type}", tag = "files",
    params(
        ("file_id" = uuid::Uuid, Path, description = "The file"),
        ("provider_type" = String, Path, description = "The provider", example = "openai"),
        PreferHeader),
    responses(
        (status = 200, description = "With `Prefer: wait`: the copy, and the job that has made it", body = UploadedOut,
            headers(("Preference-Applied" = String, description = "`wait=N`, if the caller asked for it"))),
        (status = 202, description = "The job that uploads it", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 404, description = "No such file in this domain, or no such provider"),
        (status = 409, description = "The provider has no connection, or it is switched off"),
    ))]
pub(super) async fn start_provider_upload(
    State(app): State<App>,
    Domain(domain): Domain,
    Id((file_id, provider_type)): Id<(FileId, String)>,
    prefer: Prefer,
    Extension(request_id): Extension<RequestId>,
) -> Result<Response, Problem> {
    if !app.connections.registry().contains(&provider_type) {
        return Err(Problem::not_found("provider type"));
    }
    let mut tx = app.begin().await?;
    // A file is deleted under the same lock.
    files::lock(&mut tx, &domain, file_id).await?;
    let connection = connections::find(&mut tx, &provider_type).await?;
    if !connection.is_some_and(|connection| connection.is_enabled) {
        return Err(Problem::conflict(format!(
            "provider `{provider_type}` has no connection, or it is switched off"
        )));
    }
    let payload = FileUpload {
        file_id,
        domain_id: domain.clone(),
        provider_type: provider_type.clone(),
    };
    let id = app.enqueue(tx, &payload, Some(&request_id)).await?;
    app.jobs()
        .answer(prefer, id, async |job| {
            let row = uploads::find(&mut *app.connection().await?, &provider_type, file_id).await?;
            let upload = row.map(FileUploadOut::from);
            Ok(UploadedOut { upload, job })
        })
        .await
}
