//! What goes into a provider call and what comes out of it. Every result keeps the provider's JSON beside the typed fields
//! (`raw`), every enumeration is open, and nothing here performs IO.

mod batch;
mod capabilities;
mod chunking;
mod file;
mod learned;
mod open_enum;
mod page;
mod search;
mod store_file;
mod vector_store;
pub(crate) mod wire;

pub use batch::{FileBatch, FileBatchStatus};
pub use capabilities::{Capabilities, Health};
pub use chunking::ReportedStrategy;
pub use file::{ByteStream, BytesSource, FileContent, FileUpdate, FileUpload, ProviderFile, UploadSource};
pub use learned::{Ability, Fact, LearnedCapabilities, RELEARN_AFTER};
pub use page::{Cursor, Deleted, Order, Page, PageRequest, Patch};
pub use search::{ParsedContent, SearchHit, SearchPage, SearchRequest, TextPart};
pub use store_file::{AttachFile, Attached, Attributes, LastError, StoreFileStatus, VectorStoreFile};
pub use vector_store::{
    ExpiresAfter, FileCounts, Metadata, NewVectorStore, VectorStore, VectorStoreStatus, VectorStoreUpdate,
};
