//! Reading what is known of files.

use axum::Json;
use axum::extract::State;
use rag_db::files::{self, FileFilter};
use rag_domain::FileId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::FileOut;
use crate::http::extract::{Domain, Id, Params, check_length};
use crate::http::paging::{Page, PageParams};
use crate::http::problem::Problem;
use crate::state::App;

/// Which files to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FilesParams {
    /// Only files with this in their name, in whatever case.
    #[param(example = "report", max_length = 255)]
    name: Option<String>,
    /// Only files with this tag.
    #[param(example = "contract", max_length = 128)]
    tag: Option<String>,
    /// Only files with these contents: their SHA-256, 64 hex digits.
    #[param(pattern = "^[0-9A-Fa-f]{64}$")]
    sha256: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, which had the same filters.
    cursor: Option<String>,
}

/// List files
///
/// Newest first.
#[utoipa::path(get, path = "/files", tag = "files", params(FilesParams), responses(
    (status = 200, description = "A page of the domain's files", body = Page<FileOut>),
))]
pub(super) async fn list_files(
    State(app): State<App>,
    Domain(domain): Domain,
    Params(params): Params<FilesParams>,
) -> Result<Json<Page<FileOut>>, Problem> {
    check_length("name", params.name.as_deref(), 255)?;
    check_length("tag", params.tag.as_deref(), 128)?;
    let is_hash = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !params.sha256.as_ref().is_none_or(is_hash) {
        return Err(Problem::malformed("sha256 must be 64 hex digits"));
    }
    let (limit, cursor) = (params.limit, params.cursor);
    let filter = FileFilter {
        name: params.name,
        tag: params.tag,
        sha256: params.sha256.map(|hash| hash.to_ascii_lowercase()),
    };
    let page = PageParams { limit, cursor }.check::<FileId>()?;
    let rows = files::list(
        &mut *app.connection().await?,
        &domain,
        &filter,
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
