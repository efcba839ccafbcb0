//! The API through its real router, against a real MariaDB: one database per test.
#![expect(clippy::unwrap_used, reason = "this crate is tests, its helpers included")]

mod auth;
mod builds;
mod connections;
mod downloads;
mod files;
mod harness;
mod idempotency;
mod indexes;
mod isolation;
mod keys;
mod limits;
mod lists;
mod openapi;
mod problems;
mod providers;
mod server;
mod status_cache;
mod syncs;
