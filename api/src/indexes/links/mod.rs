//! `/indexes/{index_id}/files`: which files belong to an index (R-B2), in which order, chunked how.
//!
//! Whatever changes here reaches the provider with the next build.

pub(super) mod compose;
pub(super) mod list;
pub(super) mod one;

use chrono::{DateTime, Utc};
use rag_db::index_files::Link;
use rag_domain::{ChunkingStrategy, FileId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::files::FileOut;
use crate::openapi::schemas::{ChunkingSchema, SentChunkingSchema};

/// A file in an index.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IndexFile)]
pub(super) struct LinkOut {
    #[schema(value_type = uuid::Uuid)]
    file_id: FileId,
    /// Its position among the index's files, ascending.
    include_order: u32,
    /// Overrides the file's own strategy within this index.
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<ChunkingStrategy>,
    /// The same as providers are asked for it, in tokens.
    #[schema(value_type = Option<SentChunkingSchema>)]
    chunking_strategy_sent: Option<ChunkingStrategy>,
    /// When it was linked.
    created_at: DateTime<Utc>,
    file: FileOut,
}

impl LinkOut {
    fn new(link: &Link, file: rag_db::files::File) -> Self {
        Self {
            file_id: link.file_id,
            include_order: link.include_order,
            chunking_strategy: link.chunking_strategy,
            chunking_strategy_sent: link.chunking_strategy.map(ChunkingStrategy::sent),
            created_at: link.created_at,
            file: file.into(),
        }
    }
}

/// All files of an index.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IndexFiles)]
pub(super) struct LinksOut {
    items: Vec<LinkOut>,
}
