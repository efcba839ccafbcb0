//! End to end: real programs, real HTTP, a real MariaDB.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod api;
mod architecture;
mod build;
mod deletion;
mod files;
mod fixtures;
mod mariadb;
mod provider;
mod provider_cases;
mod random_faults;
mod sync;
