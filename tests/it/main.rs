//! End to end: real programs, real HTTP, a real MariaDB.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod architecture;
mod build;
mod canaries;
mod cancel;
mod concurrency;
mod crash;
mod document;
mod events;
mod fleet;
mod guises;
mod ledger;
mod live;
mod provider_uploads;
mod review;
mod secrets;
mod trouble;
mod wait;
