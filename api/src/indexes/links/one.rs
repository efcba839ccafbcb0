//! Linking, changing and unlinking one file.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use rag_db::{DbError, files, index_files, indexes};
use rag_domain::{ChunkingStrategy, FileId, IndexId};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::LinkOut;
use crate::http::extract::{Domain, Id, JsonBody, OptionalBody};
use crate::http::idempotency::Once;
use crate::http::problem::Problem;
use crate::http::validate::{Checks, present};
use crate::openapi::schemas::ChunkingSchema;
use crate::state::App;

/// Leaves room behind it: a file without an explicit position goes to the next one.
const MAX_ORDER: u32 = 0x7fff_ffff;

/// How a file is linked; everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::indexes) struct LinkIn {
    /// Its position among the index's files; absent: at the end, or where it is.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    include_order: Option<u32>,
    /// Overrides the file's own strategy within this index; null clears.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<Option<Value>>,
}

impl LinkIn {
    fn check(self) -> Result<(Option<u32>, Option<Option<ChunkingStrategy>>), Problem> {
        let mut checks = Checks::default();
        if self.include_order.is_some_and(|order| order > MAX_ORDER) {
            checks.fail("include_order", format!("must be 0 to {MAX_ORDER}"));
        }
        let strategy = self
            .chunking_strategy
            .map(|value| value.and_then(|value| checks.chunking("chunking_strategy", &value)));
        checks.finish()?;
        Ok((self.include_order, strategy))
    }
}

/// Add a file to an index
#[utoipa::path(post, path = "/indexes/{index_id}/files/{file_id}", tag = "indexes",
    params(
        ("index_id" = uuid::Uuid, Path, description = "The index"),
        ("file_id" = uuid::Uuid, Path, description = "The file"),
    ),
    request_body = Option<LinkIn>,
    responses(
        (status = 201, description = "Linked", body = LinkOut),
        (status = 404, description = "No such index, or no such file, in this domain"),
        (status = 409, description = "The file is in this index already"),
    ))]
pub(in crate::indexes) async fn link_file(
    State(app): State<App>,
    Domain(domain): Domain,
    Id((index_id, file_id)): Id<(IndexId, FileId)>,
    once: Once,
    OptionalBody(body): OptionalBody<LinkIn>,
) -> Result<Response, Problem> {
    let (order, strategy) = body.check()?;
    let mut tx = app.begin().await?;
    indexes::lock(&mut tx, &domain, index_id).await?;
    let file = files::lock(&mut tx, &domain, file_id).await?;
    match index_files::insert(&mut tx, index_id, file_id, order, strategy.flatten()).await {
        Err(DbError::Duplicate(_)) => return Err(Problem::conflict("the file is in this index already")),
        result => result?,
    }
    let link = index_files::find(&mut tx, index_id, file_id)
        .await?
        .ok_or(DbError::NotFound("link"))?;
    let answer = once.created(&mut tx, None, &LinkOut::new(&link, file)).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Change how a file is in an index
#[utoipa::path(patch, path = "/indexes/{index_id}/files/{file_id}", tag = "indexes",
    params(
        ("index_id" = uuid::Uuid, Path, description = "The index"),
        ("file_id" = uuid::Uuid, Path, description = "The file"),
    ),
    request_body = LinkIn,
    responses(
        (status = 200, description = "The changed link", body = LinkOut),
        (status = 404, description = "No such index in this domain, or the file is not in it"),
    ))]
pub(in crate::indexes) async fn update_link(
    State(app): State<App>,
    Domain(domain): Domain,
    Id((index_id, file_id)): Id<(IndexId, FileId)>,
    JsonBody(body): JsonBody<LinkIn>,
) -> Result<Json<LinkOut>, Problem> {
    let (order, strategy) = body.check()?;
    let mut tx = app.begin().await?;
    indexes::lock(&mut tx, &domain, index_id).await?;
    let file = files::get(&mut tx, &domain, file_id).await?;
    index_files::update(&mut tx, index_id, file_id, order, strategy).await?;
    let link = index_files::find(&mut tx, index_id, file_id)
        .await?
        .ok_or(DbError::NotFound("link"))?;
    tx.commit().await?;
    Ok(Json(LinkOut::new(&link, file)))
}

/// Take a file out of an index
///
/// The file itself stays. The next build detaches it from the vector store.
#[utoipa::path(delete, path = "/indexes/{index_id}/files/{file_id}", tag = "indexes",
    params(
        ("index_id" = uuid::Uuid, Path, description = "The index"),
        ("file_id" = uuid::Uuid, Path, description = "The file"),
    ),
    responses(
        (status = 204, description = "Unlinked"),
        (status = 404, description = "No such index in this domain, or the file is not in it"),
    ))]
pub(in crate::indexes) async fn unlink_file(
    State(app): State<App>,
    Domain(domain): Domain,
    Id((index_id, file_id)): Id<(IndexId, FileId)>,
) -> Result<StatusCode, Problem> {
    let mut tx = app.begin().await?;
    indexes::lock(&mut tx, &domain, index_id).await?;
    if !index_files::delete(&mut tx, index_id, file_id).await? {
        return Err(Problem::not_found("file in this index"));
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
