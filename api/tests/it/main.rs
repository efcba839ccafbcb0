//! The API through its real router, against a real MariaDB: one database per test.

mod auth;
mod builds;
mod files;
mod harness;
mod indexes;
mod openapi;
mod problems;
mod providers;
