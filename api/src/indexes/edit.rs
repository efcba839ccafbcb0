//! `PATCH /indexes/{index_id}`.

use axum::Json;
use axum::extract::State;
use rag_db::indexes::{self, IndexChanges};
use rag_domain::IndexId;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::IndexOut;
use crate::http::extract::{Domain, Id, JsonBody};
use crate::http::problem::Problem;
use crate::http::validate::{Checks, NAME_CHARS, TEXT_CHARS, present};
use crate::openapi::schemas::{ChunkingSchema, ExpiresAfterSchema, NameSchema};
use crate::state::App;

/// Fields to change; what is absent stays, null clears.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IndexPatch {
    #[schema(value_type = Option<NameSchema>)]
    name: Option<String>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 16383, pattern = r"^[^\x00]*$")]
    description: Option<Option<String>>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<Option<Value>>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<ExpiresAfterSchema>)]
    expires_after: Option<Option<Value>>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    metadata: Option<Option<Value>>,
}

/// Change an index
///
/// The provider hears of it with the next build: name, `expires_after` and `metadata` are given to the vector store then, and a
/// changed `chunking_strategy` to the files. `dry_run` of a build shows what differs. (A description goes to the provider with
/// the creation of the store only; the protocol has no way to change it later.) Until that build no sync takes a change back.
#[utoipa::path(patch, path = "/indexes/{index_id}", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index")),
    request_body = IndexPatch,
    responses(
        (status = 200, description = "The changed index", body = IndexOut),
        (status = 404, description = "No such index in this domain"),
    ))]
pub(super) async fn update_index(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    JsonBody(patch): JsonBody<IndexPatch>,
) -> Result<Json<IndexOut>, Problem> {
    let changes = patch.check()?;
    let mut tx = app.begin().await?;
    indexes::lock(&mut tx, &domain, index_id).await?;
    indexes::update(&mut tx, &domain, index_id, &changes).await?;
    let index = indexes::get(&mut tx, &domain, index_id).await?;
    tx.commit().await?;
    Ok(Json(index.into()))
}

impl IndexPatch {
    fn check(self) -> Result<IndexChanges, Problem> {
        let mut checks = Checks::default();
        if let Some(name) = &self.name {
            checks.line("name", name, NAME_CHARS);
        }
        if let Some(Some(description)) = &self.description {
            checks.text("description", description, TEXT_CHARS);
        }
        let chunking_strategy = self
            .chunking_strategy
            .map(|value| value.and_then(|value| checks.chunking("chunking_strategy", &value)));
        if let Some(Some(value)) = &self.expires_after {
            checks.expires_after("expires_after", value);
        }
        if let Some(Some(value)) = &self.metadata {
            checks.object("metadata", value);
        }
        checks.finish()?;
        Ok(IndexChanges {
            name: self.name,
            description: self.description,
            chunking_strategy,
            expires_after: self.expires_after,
            metadata: self.metadata,
        })
    }
}
