//! The HTTP API: validates, writes rows and jobs in one transaction, reads state. Never changes anything at a provider.
//!
//! [`router`] is the application, [`cli`] the program around it. From the bottom up: `http` (what every request meets),
//! `openapi` (the document), `jobs` (work in the background), `state` (what handlers share), one folder a resource
//! (`providers`, `files`, `indexes`, `keys`, `health`), `router`, `cli`. Nothing imports from what stands further up.

pub mod cli;

mod batch_loader;
mod files;
mod health;
mod http;
mod indexes;
mod jobs;
mod kept_connections;
mod keys;
mod openapi;
mod providers;
mod router;
mod state;
mod status_cache;

pub use self::http::auth::{KeyCache, Role, fingerprint, new_key};
pub use self::http::server::serve;
pub use router::{document, router};
pub use state::{App, Parts};
