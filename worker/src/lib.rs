//! The worker: runs the jobs that the API enqueued, and is the only program that changes anything at a provider.
//!
//! `jobs` has one file per job kind, `pipeline` one file per step of a build, `sync` the ways in which the provider's word
//! gets into our rows, `observe` what both of them see of a provider, `files_sweep` the comparison of FILES_ROOT with rows. Start as many workers as you like: what keeps
//! them apart is the queue's claim, which every write of theirs is fenced by.

mod build;
mod context;
mod delete;
mod jobs;
mod lease;
mod maintenance;
mod observe;
mod orphans;
mod probe;
mod provider_payload;
mod server;
mod step_error;
mod sync;
mod upload;
mod worker;

pub use context::Context;
pub use worker::run;
