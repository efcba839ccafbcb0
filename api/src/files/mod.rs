//! `/files` (R-B1): documents of a domain. One file per concern; uploads and downloads are `transfer_routes`.

mod content;
mod delete;
mod deletions;
mod edit;
mod media_type;
mod provider_uploads;
mod quota;
mod range;
mod read;
mod upload;

use chrono::{DateTime, Utc};
use rag_db::files::File;
use rag_domain::{ChunkingStrategy, FileId};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi::schemas::{ChunkingSchema, SentChunkingSchema};
use crate::state::App;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read::list_files))
        .routes(routes!(read::get_file, edit::update_file, delete::delete_file))
        .routes(routes!(provider_uploads::list_provider_uploads))
        .routes(routes!(
            provider_uploads::get_provider_upload,
            provider_uploads::start_provider_upload
        ))
}

pub(crate) fn admin_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(deletions::list_file_deletions))
        .routes(routes!(deletions::give_up_file_deletion))
}

pub(crate) fn transfer_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(upload::upload_file))
        .routes(routes!(content::download_file))
        .routes(routes!(content::replace_content))
}

/// A document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub(super) struct FileOut {
    #[schema(value_type = uuid::Uuid)]
    id: FileId,
    #[schema(example = "tenant-1")]
    domain_id: String,
    #[schema(example = "report.pdf")]
    file_name: String,
    /// MIME type.
    #[schema(example = "application/pdf")]
    file_type: String,
    #[schema(example = 48213)]
    size_bytes: u64,
    /// SHA-256 of the contents, 64 hex digits.
    sha256: String,
    tags: Vec<String>,
    notes: Option<String>,
    /// How it is chunked, unless the index link says otherwise; null: as the index says, or the provider.
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<ChunkingStrategy>,
    /// The same as providers are asked for it, in tokens.
    #[schema(value_type = Option<SentChunkingSchema>)]
    chunking_strategy_sent: Option<ChunkingStrategy>,
    /// Only of files that were imported from a provider.
    external_file_id: Option<String>,
    external_uploaded_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<File> for FileOut {
    fn from(file: File) -> Self {
        Self {
            id: file.id,
            domain_id: file.domain_id.to_string(),
            file_name: file.file_name,
            file_type: file.file_type,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
            tags: file.tags.unwrap_or_default(),
            notes: file.notes,
            chunking_strategy: file.chunking_strategy,
            chunking_strategy_sent: file.chunking_strategy.map(ChunkingStrategy::sent),
            external_file_id: file.external_file_id,
            external_uploaded_at: file.external_uploaded_at,
            created_at: file.created_at,
            updated_at: file.updated_at,
        }
    }
}
