//! Ids, statuses, legal transitions, aggregation, chunking rules and the build plan.
//!
//! Pure values and functions: no IO, no async, no clock, no database types. Everything else in the workspace may depend
//! on this crate; it depends on nothing of ours.

mod attachment;
mod chunking;
mod domain_id;
mod ids;
mod indexing_status;
mod plan;
mod presence;
mod status;
mod store_diff;
mod store_settings;
mod sync;
mod transition;
mod upload;
mod way_in;

pub use attachment::AttachmentState;
pub use chunking::{ChunkingProof, ChunkingStrategy, InvalidChunking};
pub use domain_id::{DomainId, InvalidDomainId};
pub use ids::{ApiKeyId, AttachmentId, FileId, IndexId, IntentId, InvalidId, UploadId};
pub use indexing_status::{FileCounts, IndexingStatus};
pub use plan::{BuildPlan, DesiredFile, DetachReason, PresentFile, UploadedFile};
pub use presence::{Doubt, Evidence, Listing, Verdict};
pub use status::UnknownStatus;
pub use store_diff::{Claim, StoreDiff};
pub use store_settings::{STORE_TAGS, Setting, StoreSettings};
pub use sync::{Brake, FindingKind, ItemState, SyncCounts};
pub use transition::Transition;
pub use upload::UploadStatus;
pub use way_in::{Call, Entrances, Waiting, WayIn, calls};
