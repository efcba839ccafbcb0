//! `POST /indexes`.

use axum::extract::State;
use axum::response::Response;
use rag_db::indexes::{self, NewIndex};
use rag_domain::{DomainId, IndexId};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::IndexOut;
use crate::http::extract::{Domain, JsonBody};
use crate::http::idempotency::Once;
use crate::http::problem::{Kind, Problem};
use crate::http::validate::{Checks, NAME_CHARS, TEXT_CHARS};
use crate::openapi::schemas::{ChunkingSchema, ExpiresAfterSchema, NameSchema};
use crate::state::App;

/// A knowledge base to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Contracts", "provider_type": "openai",
    "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}}))]
pub(super) struct NewIndexIn {
    #[schema(value_type = NameSchema)]
    name: String,
    #[schema(max_length = 16383, pattern = r"^[^\x00]*$")]
    description: Option<String>,
    /// One of those that `GET /providers` lists. It cannot be changed later.
    #[schema(example = "openai")]
    provider_type: String,
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<Value>,
    #[schema(value_type = Option<ExpiresAfterSchema>)]
    expires_after: Option<Value>,
    /// Any JSON object of at most 64 KiB, for the caller's own use.
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    metadata: Option<Value>,
}

/// Create an index
///
/// Nothing happens at the provider until the index is built.
#[utoipa::path(post, path = "/indexes", tag = "indexes", request_body = NewIndexIn, responses(
    (status = 201, description = "Created", body = IndexOut, headers(("Location" = String, description = "The index's path"))),
    (status = 404, description = "No such provider type"),
))]
pub(super) async fn create_index(
    State(app): State<App>,
    Domain(domain): Domain,
    once: Once,
    JsonBody(body): JsonBody<NewIndexIn>,
) -> Result<Response, Problem> {
    let new = body.check(domain)?;
    let registry = app.connections.registry();
    if !registry.contains(&new.provider_type) {
        let known: Vec<&str> = registry.provider_types().collect();
        let provider: String = new.provider_type.chars().take(64).collect();
        return Err(Problem::new(
            Kind::UnknownProvider,
            format!(
                "provider type `{provider}` is not known; these are: {}",
                known.join(", ")
            ),
        ));
    }
    let mut tx = app.begin().await?;
    indexes::insert(&mut tx, &new).await?;
    let index = indexes::get(&mut tx, &new.domain_id, new.id).await?;
    let location = format!("/api/v1/indexes/{}", new.id);
    let answer = once
        .created(&mut tx, Some(location), &IndexOut::from(index))
        .await?;
    tx.commit().await?;
    Ok(answer)
}

impl NewIndexIn {
    fn check(self, domain_id: DomainId) -> Result<NewIndex, Problem> {
        let mut checks = Checks::default();
        checks.line("name", &self.name, NAME_CHARS);
        if let Some(description) = &self.description {
            checks.text("description", description, TEXT_CHARS);
        }
        let chunking_strategy = self
            .chunking_strategy
            .and_then(|value| checks.chunking("chunking_strategy", &value));
        if let Some(value) = &self.expires_after {
            checks.expires_after("expires_after", value);
        }
        if let Some(value) = &self.metadata {
            checks.object("metadata", value);
        }
        checks.finish()?;
        Ok(NewIndex {
            id: IndexId::new(),
            domain_id,
            name: self.name,
            description: self.description,
            provider_type: self.provider_type,
            chunking_strategy,
            expires_after: self.expires_after,
            metadata: self.metadata,
        })
    }
}
