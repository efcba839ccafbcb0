//! Reading indexes.

use axum::Json;
use axum::extract::State;
use rag_db::indexes;
use rag_domain::IndexId;

use super::IndexOut;
use crate::extract::{Domain, Id, Params};
use crate::paging::{Page, PageParams};
use crate::problem::Problem;
use crate::state::App;

/// List indexes
///
/// Newest first.
#[utoipa::path(get, path = "/indexes", tag = "indexes", params(PageParams), responses(
    (status = 200, description = "A page of the domain's indexes", body = Page<IndexOut>),
))]
pub(super) async fn list_indexes(
    State(app): State<App>,
    Domain(domain): Domain,
    Params(page): Params<PageParams>,
) -> Result<Json<Page<IndexOut>>, Problem> {
    let page = page.check::<IndexId>()?;
    let rows = indexes::list(
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
        IndexOut::from,
    )))
}

/// Read an index
#[utoipa::path(get, path = "/indexes/{index_id}", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index")),
    responses(
        (status = 200, description = "The index", body = IndexOut),
        (status = 404, description = "No such index in this domain"),
    ))]
pub(super) async fn get_index(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
) -> Result<Json<IndexOut>, Problem> {
    let index = indexes::get(&mut *app.connection().await?, &domain, index_id).await?;
    Ok(Json(index.into()))
}
