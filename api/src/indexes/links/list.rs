//! Reading the composition of an index.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use rag_db::{files, index_files, indexes};
use rag_domain::{DomainId, IndexId};
use sqlx::MySqlConnection;

use super::{LinkOut, LinksOut};
use crate::http::extract::{Domain, Id};
use crate::http::problem::Problem;
use crate::state::App;

/// List the files of an index
///
/// All of them, in the index's order.
#[utoipa::path(get, path = "/indexes/{index_id}/files", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index")),
    responses(
        (status = 200, description = "The index's files", body = LinksOut),
        (status = 404, description = "No such index in this domain"),
    ))]
pub(in crate::indexes) async fn list_index_files(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
) -> Result<Json<LinksOut>, Problem> {
    let mut connection = app.connection().await?;
    indexes::get(&mut connection, &domain, index_id).await?;
    Ok(Json(read(&mut connection, &domain, index_id).await?))
}

pub(super) async fn read(
    db: &mut MySqlConnection,
    domain: &DomainId,
    index_id: IndexId,
) -> Result<LinksOut, Problem> {
    let links = index_files::list(db, index_id).await?;
    let files = files::list_of_index(db, domain, index_id).await?;
    let mut files: HashMap<_, _> = files.into_iter().map(|file| (file.id, file)).collect();
    let items = links
        .into_iter()
        .filter_map(|link| files.remove(&link.file_id).map(|file| LinkOut::new(&link, file)));
    Ok(LinksOut {
        items: items.collect(),
    })
}
