//! Reading what is known of files.

use axum::Json;
use axum::extract::State;
use rag_db::files;
use rag_domain::FileId;

use super::FileOut;
use crate::extract::{Domain, Id, Params};
use crate::paging::{Page, PageParams};
use crate::problem::Problem;
use crate::state::App;

/// List files
///
/// Newest first.
#[utoipa::path(get, path = "/files", tag = "files", params(PageParams), responses(
    (status = 200, description = "A page of the domain's files", body = Page<FileOut>),
))]
pub(super) async fn list_files(
    State(app): State<App>,
    Domain(domain): Domain,
    Params(page): Params<PageParams>,
) -> Result<Json<Page<FileOut>>, Problem> {
    let page = page.check::<FileId>()?;
    let rows = files::list(
        &mut *app.connection().await?,
        &domain,
        page.before,
        page.limit + 1,
    )
    .await?;
    Ok(Json(Page::of(
        rows,
        page.limit,
        |row| (row.created_at, row.id),
        FileOut::from,
    )))
}

/// Read a file's record
#[utoipa::path(get, path = "/files/{file_id}", tag = "files",
    params(("file_id" = uuid::Uuid, Path, description = "The file")),
    responses(
        (status = 200, description = "The file", body = FileOut),
        (status = 404, description = "No such file in this domain"),
    ))]
pub(super) async fn get_file(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(file_id): Id<FileId>,
) -> Result<Json<FileOut>, Problem> {
    let file = files::get(&mut *app.connection().await?, &domain, file_id).await?;
    Ok(Json(file.into()))
}
