//! The HTTP API: validates, writes rows and jobs in one transaction, reads state. Never changes anything at a provider.
//!
//! [`router`] is the application, [`cli`] the program around it. A request passes `edge` (request id, log, problem
//! bodies), then `auth` (who calls), then `idempotency` (was this asked before), then its handler in `routes`, which uses `extract` and `validate` and calls the
//! functions of rag-db directly.

mod auth;
pub mod cli;

mod edge;
mod enqueue;
mod events;
mod extract;
mod files_root;
mod idempotency;
mod limits;
mod openapi;
mod paging;
mod problem;
mod quota;
mod routes;
mod schemas;
mod server;
mod shared_looks;
mod standings;
mod state;
mod upload;
mod validate;

pub use auth::{KeyCache, Role, fingerprint, new_key};
pub use routes::{document, router};
pub use server::serve;
pub use state::{App, Parts};
