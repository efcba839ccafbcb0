//! One contract for vector-store providers, the wire client of the OpenAI protocol, and the adapters over it.
//!
//! [`contract`] is what the rest of the service sees: [`Provider`], an object-safe trait, over the typed results of
//! [`types`], failing with a [`ProviderError`] that says what happened, whether it may have taken effect, and when to try
//! again. [`registry`] turns a provider type and a stored connection into a provider. `http` is the transport (timeouts,
//! short retries, error classes, the guard against forged destinations), `protocol` the OpenAI dialect spoken over it, and
//! the folders `openai`, `sentralix` and `yandex` hold what is peculiar to each provider, and nothing else knows it.
//!
//! Deliberately absent: the database (tokens and request budgets are kept behind [`TokenStore`] and [`RequestBudget`], which
//! the caller implements), sealing of credentials, retries that outlive a call (the queue's work), and the mapping of an
//! error to an HTTP answer (the API's).

pub mod adapter;
pub mod connection;
pub mod contract;
pub mod error;
mod http;
mod openai;
mod operation;
pub mod paging;
mod protocol;
pub mod registry;
mod sentralix;
pub mod types;
mod yandex;

pub use adapter::{Adapter, AuthMethod};
pub use connection::{
    BudgetRefused, ConnectionConfig, Credentials, Exhausted, FieldError, HookError, NetworkPolicy, Permit,
    Refusal, RequestBudget, StoredToken, Timeouts, TokenStore,
};
pub use contract::{ALREADY_ATTACHED, Provider};
pub use error::{Disposition, Effect, ErrorKind, Exhaustion, ProviderError};
pub use operation::Operation;
pub use paging::ProviderExt;
pub use rag_domain::ChunkingStrategy;
pub use registry::{OpenError, Registry};
pub use types::{
    Ability, AttachFile, Attached, Attributes, ByteStream, BytesSource, Capabilities, Cursor, Deleted,
    ExpiresAfter, Fact, FileBatch, FileBatchStatus, FileContent, FileCounts, FileUpdate, FileUpload, Health,
    LastError, LearnedCapabilities, Metadata, NewVectorStore, Order, Page, PageRequest, ParsedContent, Patch,
    ProviderFile, RELEARN_AFTER, ReportedStrategy, SearchHit, SearchPage, SearchRequest, StoreFileStatus,
    TextPart, UploadSource, VectorStore, VectorStoreFile, VectorStoreStatus, VectorStoreUpdate,
};
