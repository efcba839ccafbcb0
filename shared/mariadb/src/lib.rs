//! What every user of MariaDB here shares: how connections are made and given up, what a server's errors mean (`errors`), and
//! how it is said that one waits for it (`outage_log`).
//!
//! Programs begin with [`connect_checked`] (`start`): it reads where the server is (`options`), says why it refuses connections
//! (`refusal`), checks what it must be like (`requirements`, `rights`) and answers a pool (`pool`), whose sessions are all
//! alike (`session`).
//!
//! Knows neither tables nor jobs: those are `rag-db`'s and `apalis-mariadb`'s, which both stand on this crate.

mod errors;
mod options;
mod outage_log;
mod pool;
mod purpose;
mod refusal;
mod requirements;
mod rights;
mod session;
mod start;

pub use errors::{Cause, cause, number};
pub use options::{Target, TargetError};
pub use outage_log::OutageLog;
pub use pool::{MAX_AGE, check_writable, connect, connect_lazy, open};
pub use purpose::{Purpose, Unmet};
pub use refusal::Refusal;
pub use start::{StartError, connect_checked};
