//! The adapter to apalis: a backend, its layer, and workers set up with both. No SQL, no decisions.

mod layer;
mod storage;
mod worker_set;

pub use layer::{OutcomeLayer, OutcomeService};
pub use storage::{MariaDbStorage, StorageConfig};
pub use worker_set::{WorkerSet, WorkerSetError};
