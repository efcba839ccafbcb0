//! Shapes for the OpenAPI document alone: types that live in crates which know nothing of OpenAPI.
#![expect(dead_code, reason = "described, never constructed")]

use serde::Serialize;
use utoipa::ToSchema;

/// A line of text with something in it.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, as = Name, min_length = 1, max_length = 255, example = "Contracts",
    pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
pub(crate) struct NameSchema(String);

/// A name without folders.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, as = FileName, min_length = 1, max_length = 255, example = "report.pdf",
    pattern = r"^[^/\\\x00-\x1f\x7f-\x9f]*[^/\\.\s\x00-\x1f\x7f-\x9f][^/\\\x00-\x1f\x7f-\x9f]*$")]
pub(crate) struct FileNameSchema(String);

/// One word or several.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, as = Tag, min_length = 1, max_length = 128, example = "contract",
    pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
pub(crate) struct TagSchema(String);

/// A field of credentials.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Credential)]
pub(crate) enum CredentialSchema {
    Text(String),
    /// A JSON document pasted whole, such as the key of a service account.
    Document(std::collections::HashMap<String, serde_json::Value>),
}

/// One query.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, as = QueryText, max_length = 4096, min_length = 1, example = "What is the notice period?",
    pattern = r"^[^\x00]*[^\s\x00-\x1f\x7f-\x9f][^\x00]*$")]
pub(crate) struct QueryTextSchema(String);

/// Several queries at once.
#[derive(Serialize, ToSchema)]
#[schema(as = QueryTexts, min_items = 1, max_items = 16)]
pub(crate) struct QueryTextsSchema(Vec<QueryTextSchema>);

/// One query, or several at once.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Query)]
pub(crate) enum QuerySchema {
    One(QueryTextSchema),
    Several(QueryTextsSchema),
}

/// A domain (tenant).
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, as = Domain, min_length = 1, max_length = 128, example = "tenant-1",
    pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$")]
pub(crate) struct DomainSchema(String);

/// The word for every domain.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EveryDomain)]
pub(crate) enum EveryDomainSchema {
    All,
}

/// Domains by name; an empty list allows none.
#[derive(Serialize, ToSchema)]
#[schema(as = DomainNames, max_items = 1000)]
pub(crate) struct DomainNamesSchema(Vec<DomainSchema>);

/// Which domains a key may name in X-Domain-Id: `all`, or these.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = KeyDomains)]
pub(crate) enum KeyDomainsSchema {
    All(EveryDomainSchema),
    Only(DomainNamesSchema),
}

/// How a file is cut into chunks.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = ChunkingStrategy, example = json!({"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}))]
pub(crate) enum ChunkingSchema {
    /// The provider's choice.
    #[schema(title = "AutoChunking")]
    Auto,
    /// Fixed sizes.
    #[schema(title = "StaticChunking")]
    Static { r#static: StaticSizes },
    /// Sizes in characters. A provider is asked for tokens: four characters are taken for one, rounded up.
    #[schema(title = "RecursiveChunking")]
    Recursive {
        #[schema(minimum = 400, maximum = 16_384)]
        chunk_size: u32,
        /// At most half of `chunk_size`.
        #[schema(minimum = 0, maximum = 8192)]
        chunk_overlap: u32,
    },
}

/// How a provider is asked to cut a file into chunks.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = SentChunkingStrategy)]
pub(crate) enum SentChunkingSchema {
    /// The provider's choice.
    #[schema(title = "SentAutoChunking")]
    Auto,
    /// Fixed sizes.
    #[schema(title = "SentStaticChunking")]
    Static { r#static: StaticSizes },
}

/// Sizes in tokens.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaticSizes {
    #[schema(minimum = 100, maximum = 4096)]
    max_chunk_size_tokens: u32,
    /// At most half of `max_chunk_size_tokens`.
    #[schema(minimum = 0, maximum = 2048)]
    chunk_overlap_tokens: u32,
}

/// When the provider may drop an unused store.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExpiresAfter, example = json!({"anchor": "last_active_at", "days": 30}))]
pub(crate) struct ExpiresAfterSchema {
    anchor: Anchor,
    #[schema(minimum = 1, maximum = 365)]
    days: u32,
}

/// What the days are counted from.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Anchor {
    /// The last use of the store.
    LastActiveAt,
}

/// The state of an index.
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

/// At least one byte.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, format = Binary, min_length = 1)]
pub(crate) struct SomeBytes(String);

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

/// The state of a job, as answers have it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = JobState)]
pub(crate) enum ShownJobStateSchema {
    Scheduled,
    Ready,
    Blocked,
    Running,
    Done,
    Failed,
    Cancelled,
    /// The job's row has a state that this version does not know; `unreadable` names the column.
    Unknown,
}

/// The state of a job.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = KnownJobState)]
pub(crate) enum JobStateSchema {
    /// Waits for its time: backing off after an error, or until its next poll of the provider.
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

/// What is known of a file's copy at a provider.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UploadStatus)]
pub(crate) enum UploadStatusSchema {
    Pending,
    Uploaded,
    Failed,
    /// The record of a copy that was deleted.
    Deleted,
}
