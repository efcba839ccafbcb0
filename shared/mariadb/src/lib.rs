//! What every user of MariaDB here shares: how connections are made (`pool`), and what a server's errors mean (`errors`).
//!
//! Knows neither tables nor jobs: those are `rag-db`'s and `apalis-mariadb`'s, which both stand on this crate.

mod errors;
mod pool;

pub use errors::{Cause, cause};
pub use pool::{connect, connect_lazy};
