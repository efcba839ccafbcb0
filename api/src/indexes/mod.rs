//! `/indexes` (R-B2, R-10.4): knowledge bases of a domain, the files in them, and their builds.

mod build;
mod create;
mod delete;
mod delete_store;
mod edit;
mod links;
mod live_store;
mod plan;
mod provider_files;
mod read;
mod search;
mod status;
mod store_files;
mod sync;
mod sync_all;

use chrono::{DateTime, Utc};
use rag_db::indexes::Index;
use rag_domain::{ChunkingStrategy, IndexId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi::schemas::{ChunkingSchema, ExpiresAfterSchema, IndexingStatusSchema, SentChunkingSchema};
use crate::state::App;

/// What to do if a vector store has expired at the provider.
const EXPIRED_WAY_OUT: &str =
    "the vector store has expired at the provider: build the index with recreate=true to make a new one";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read::list_indexes, create::create_index))
        .routes(routes!(read::get_index, edit::update_index, delete::delete_index))
        .routes(routes!(
            links::list::list_index_files,
            links::compose::set_index_files
        ))
        .routes(routes!(
            links::one::link_file,
            links::one::update_link,
            links::one::unlink_file
        ))
        .routes(routes!(build::build_index))
        .routes(routes!(delete_store::delete_vector_store))
        .routes(routes!(sync::sync_index))
        .routes(routes!(sync_all::sync_indexes))
        .routes(routes!(status::get_status))
        .routes(routes!(search::search_index))
        .routes(routes!(provider_files::list_provider_files))
}

/// A knowledge base.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Index)]
pub(super) struct IndexOut {
    #[schema(value_type = uuid::Uuid)]
    id: IndexId,
    #[schema(example = "tenant-1")]
    domain_id: String,
    #[schema(example = "Contracts")]
    name: String,
    description: Option<String>,
    #[schema(example = "openai")]
    provider_type: String,
    /// The vector store at the provider; null until a build has made one.
    #[schema(example = "vs_68f0c2")]
    external_id: Option<String>,
    /// For files that have no strategy of their own; null: the provider's default.
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<ChunkingStrategy>,
    /// The same as providers are asked for it, in tokens.
    #[schema(value_type = Option<SentChunkingSchema>)]
    chunking_strategy_sent: Option<ChunkingStrategy>,
    #[schema(value_type = Option<ExpiresAfterSchema>)]
    expires_after: Option<Value>,
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    metadata: Option<Value>,
    #[schema(value_type = IndexingStatusSchema)]
    indexing_status: &'static str,
    /// Start of the last indexing attempt.
    indexed_at: Option<DateTime<Utc>>,
    /// Why the last build failed, or pauses; else why the last sync, or the last search, failed. The next one of its kind that
    /// succeeds clears it.
    last_error: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Index> for IndexOut {
    fn from(index: Index) -> Self {
        let last_error = index.any_error().map(str::to_owned);
        Self {
            id: index.id,
            domain_id: index.domain_id.to_string(),
            name: index.name,
            description: index.description,
            provider_type: index.provider_type,
            external_id: index.external_id,
            chunking_strategy: index.chunking_strategy,
            chunking_strategy_sent: index.chunking_strategy.map(ChunkingStrategy::sent),
            expires_after: index.expires_after,
            metadata: index.metadata,
            indexing_status: index.indexing_status.as_str(),
            indexed_at: index.indexed_at,
            last_error,
            created_at: index.created_at,
            updated_at: index.updated_at,
        }
    }
}
