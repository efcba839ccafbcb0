//! The jobs that the API enqueues and the worker runs. A kind is one type, its payload, with one [`JobSpec`]: name, keys,
//! attempts. Jobs are made by [`JobSpec::to_job`] alone.
//!
//! Payloads live in job rows across upgrades: fields are added with a default, never renamed or removed.

mod file;
mod index;
mod probe_report;
mod provider;
mod spec;

pub use file::{FileDelete, FileDetach, FileUpload};
pub use index::{DomainSync, IndexBuild, IndexCancel, IndexDelete, IndexStoreDelete, IndexSync};
pub use probe_report::{Check, CheckResult, ProbeReport, ProbeVerdict};
pub use provider::{Compare, OrphanMode, OrphanReconcile, ProviderProbe, ProviderSync};
pub use spec::{Attempts, JobLimits, JobSpec, index_concurrency_key};

spec::kinds!(
    IndexBuild,
    IndexDelete,
    IndexStoreDelete,
    IndexCancel,
    IndexSync,
    DomainSync,
    FileUpload,
    FileDelete,
    FileDetach,
    ProviderSync,
    ProviderProbe,
    OrphanReconcile,
);

#[cfg(test)]
mod tests;
