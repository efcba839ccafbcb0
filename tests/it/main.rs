//! End to end: real programs, real HTTP, a real MariaDB.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod architecture;
mod behind;
mod build;
mod canaries;
mod cancel;
mod concurrency;
mod crash;
mod deletion;
mod document;
mod events;
mod fleet;
mod guises;
mod index_sync;
mod killing;
mod large_build;
mod ledger;
mod live;
mod orphans;
mod provider_cases;
mod provider_sync;
mod provider_uploads;
mod racing;
mod real_servers;
mod review;
mod secrets;
mod stuck;
mod sync_crash;
mod trouble;
mod wait;
