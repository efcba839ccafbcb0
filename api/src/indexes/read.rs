//! Reading indexes.

use axum::Json;
use axum::extract::State;
use rag_db::indexes::{self, IndexFilter};
use rag_domain::{IndexId, IndexingStatus};
use serde::Deserialize;
use utoipa::IntoParams;

use super::IndexOut;
use crate::http::extract::{Domain, Id, Params, check_length};
use crate::http::paging::{Page, PageParams};
use crate::http::problem::Problem;
use crate::openapi::schemas::IndexingStatusSchema;
use crate::state::App;

/// Which indexes to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct IndexesParams {
    /// Only indexes with this in their name, in whatever case.
    #[param(example = "contracts", max_length = 255)]
    name: Option<String>,
    /// Only indexes that stand so.
    #[param(inline, value_type = Option<IndexingStatusSchema>)]
    indexing_status: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, which had the same filters.
    cursor: Option<String>,
}

/// List indexes
///
/// Newest first.
#[utoipa::path(get, path = "/indexes", tag = "indexes", params(IndexesParams), responses(
    (status = 200, description = "A page of the domain's indexes", body = Page<IndexOut>),
))]
pub(super) async fn list_indexes(
    State(app): State<App>,
    Domain(domain): Domain,
    Params(params): Params<IndexesParams>,
) -> Result<Json<Page<IndexOut>>, Problem> {
    check_length("name", params.name.as_deref(), 255)?;
    let status = params.indexing_status.map(IndexingStatus::try_from).transpose();
    let filter = IndexFilter {
        name: params.name,
        indexing_status: status
            .map_err(|_| Problem::malformed("indexing_status is not one of an index's"))?,
    };
    let (limit, cursor) = (params.limit, params.cursor);
    let page = PageParams { limit, cursor }.check::<IndexId>()?;
    let rows = indexes::list(
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
