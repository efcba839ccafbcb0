//! Shapes for the OpenAPI document alone: types that live in crates which know nothing of OpenAPI.
#![expect(dead_code, reason = "described, never constructed")]

use serde::Serialize;
use utoipa::ToSchema;

/// How a file is cut into chunks.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ChunkingStrategy, example = json!({"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}))]
pub(crate) enum ChunkingSchema {
    /// The provider's choice.
    #[schema(title = "AutoChunking")]
    Auto,
    /// Fixed sizes.
    #[schema(title = "StaticChunking")]
    Static { r#static: StaticSizes },
}

/// Sizes in tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct StaticSizes {
    #[schema(minimum = 100, maximum = 4096)]
    max_chunk_size_tokens: u32,
    /// At most half of `max_chunk_size_tokens`.
    #[schema(minimum = 0, maximum = 2048)]
    chunk_overlap_tokens: u32,
}

/// When the provider may drop an unused store.
#[derive(Serialize, ToSchema)]
#[schema(as = ExpiresAfter, example = json!({"anchor": "last_active_at", "days": 30}))]
pub(crate) struct ExpiresAfterSchema {
    /// Always `last_active_at`.
    #[schema(example = "last_active_at")]
    anchor: String,
    #[schema(minimum = 1, maximum = 365)]
    days: u32,
}

/// Where an index stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = IndexingStatus)]
pub(crate) enum IndexingStatusSchema {
    NotIndexed,
    InProgress,
    Done,
    Failed,
}

/// Bytes as they are.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct Bytes(String);

/// What an API key is for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Role)]
pub(crate) enum RoleSchema {
    /// Files, indexes, jobs of domains.
    Service,
    /// All that, and the installation.
    Admin,
}

/// Where a job is in its life.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = JobState)]
pub(crate) enum JobStateSchema {
    /// Waits for its time: backing off after an error, or until the next look at the provider.
    Scheduled,
    /// Waits for a worker.
    Ready,
    /// Waits for another job of the same index to end.
    Blocked,
    Running,
    Done,
    Failed,
    Cancelled,
}
