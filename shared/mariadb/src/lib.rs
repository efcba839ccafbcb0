//! What every user of MariaDB here shares: how connections are made, and what a server's errors mean (`errors`).
//!
//! Programs begin with [`connect_checked`] (`start`): it reads where the server is (`options`), says why it lets nobody in
//! (`refusal`), checks what it must be like (`requirements`, `rights`) and answers a pool (`pool`), whose sessions are all
//! alike (`session`).
//!
//! Knows neither tables nor jobs: those are `rag-db`'s and `apalis-mariadb`'s, which both stand on this crate.

mod errors;
mod options;
mod pool;
mod refusal;
mod requirements;
mod rights;
mod session;
mod start;

pub use errors::{Cause, cause};
pub use options::{Target, TargetError};
pub use pool::{connect, connect_lazy};
pub use refusal::Refusal;
pub use requirements::{Purpose, Unmet};
pub use start::{StartError, connect_checked};
