//! The local truth in MariaDB: one module per table, rows in, domain types out.
//!
//! Functions take the caller's connection, so that several of them make one transaction. Every move of a state machine is one
//! conditional `UPDATE` whose `WHERE` is declared in `rag-domain` and which affects exactly one row; if it does not, the
//! caller gets [`DbError::Conflict`], and its transaction is rolled back. Nothing here knows a provider. `status` reads an
//! index's job in the same statement as the index, by SQL that the queue exports.

pub mod api_keys;
pub mod attachments;
pub mod backoffs;
pub mod blocks;
pub mod budgets;
pub mod builds;
pub mod composition;
pub mod connections;
mod error;
pub mod files;
pub mod files_root;
pub mod files_sweep;
pub mod idempotency;
pub mod imports;
pub mod index_files;
pub mod indexes;
pub mod intents;
pub mod missing;
pub mod ownership;
pub mod quotas;
pub mod schedules;
mod schema;
pub mod slots;
mod sql;
pub mod status;
pub mod store_polls;
pub mod syncs;
pub mod upload_jobs;
pub mod uploads;

pub use error::DbError;
pub use rag_mariadb::{check_writable, connect, connect_lazy};
pub use schema::{MIGRATOR, SchemaError, check_schema, migrate};
pub use sql::Text;
