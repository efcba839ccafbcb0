//! Ids, statuses, legal transitions, aggregation, chunking rules and the build plan.
//!
//! Pure values and functions: no IO, no async, no clock, no database types. Everything else in the workspace may depend
//! on this crate; it depends on nothing of ours.

mod attach_method;
mod attachment;
mod build_plan;
mod chunking;
mod concurrency_limit;
mod deletion_threshold;
mod domain_id;
mod ids;
mod index_diff;
mod indexing_status;
mod presence;
mod status;
mod store_diff;
mod store_plan;
mod store_settings;
mod sync;
mod transition;
mod upload;

pub use attach_method::{AttachCall, AttachMethod, BatchSupport, WaitingFile, attach_calls};
pub use attachment::AttachmentState;
pub use build_plan::{BuildPlan, DesiredFile, DetachReason, PresentFile, UploadedFile};
pub use chunking::{ChunkingProof, ChunkingStrategy, InvalidChunking};
pub use concurrency_limit::{ConcurrencyLimit, Period};
pub use deletion_threshold::DeletionThreshold;
pub use domain_id::{DomainId, InvalidDomainId};
pub use ids::{ApiKeyId, AttachmentId, FileId, IndexId, IntentId, InvalidId, UploadId};
pub use index_diff::{AttachedRow, FileReport, IndexDiff, ListedFile};
pub use indexing_status::{FileCounts, IndexingStatus};
pub use presence::{Doubt, Evidence, Listing, Verdict};
pub use status::UnknownStatus;
pub use store_diff::{AttachedFile, StoreDiff};
pub use store_plan::{KnownFile, LinkedFile, NewLink, NewRow, RowOwner, StorePlan, StoreView};
pub use store_settings::{STORE_TAGS, Setting, StoreSettings};
pub use sync::{FindingKind, ItemState, SyncCounts, SyncPhase};
pub use transition::Transition;
pub use upload::UploadStatus;
