//! The adapter to apalis: a backend, its layer, workers set up with both, and a view for dashboards. No SQL, no decisions.

mod layer;
mod storage;
mod view;
mod worker_set;

pub use layer::{OutcomeLayer, OutcomeService};
pub use storage::{MariaDbStorage, StorageConfig};
pub use view::{PayloadCodec, QueueView, ViewError};
pub use worker_set::{WorkerSet, WorkerSetError};
