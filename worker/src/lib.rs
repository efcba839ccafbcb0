//! The worker: runs the jobs that the API enqueued, and is the only program that changes anything at a provider.
//!
//! | folder | what |
//! |---|---|
//! | `jobs` | one file per job kind: from a claim to the code that does the work, and back to an outcome |
//! | `lease` | what a claim may write, and intents taken over from claims that have ended |
//! | `observe` | the only code that lists a provider; it changes nothing there |
//! | `build` | a build, one file per step |
//! | `upload` | one file's copy at the provider, for builds and without an index |
//! | `delete` | an index, a store, a file; and the deletions that wait at a provider |
//! | `sync` | what a provider has and says, written into our rows |
//! | `orphans` | the search for what we made and no row references |
//! | `probe` | tries a provider for what the others rely on |
//! | `maintenance` | recurring tasks, the schedule, the sweep of FILES_ROOT |
//!
//! What is compared with what is pure and in `rag-domain` (`BuildPlan`, `StoreDiff`, `IndexDiff`, `StorePlan`, `Evidence`).
//! Start as many workers as you like: the queue's claim keeps them apart, and fences each of their writes.

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
