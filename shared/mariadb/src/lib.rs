//! What every user of MariaDB here shares: how connections are made and given up (`pool`), what a server's errors mean
//! (`errors`), and how it is said that one waits for it (`outage_log`).
//!
//! Knows neither tables nor jobs: those are `rag-db`'s and `apalis-mariadb`'s, which both stand on this crate.

mod errors;
mod outage_log;
mod pool;

pub use errors::{Cause, cause, number};
pub use outage_log::OutageLog;
pub use pool::{MAX_AGE, check_writable, connect, connect_lazy, open};
