//! Functions of `rag-db` against a real MariaDB, one database for each test.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod attachments;
mod deletions;
mod fixtures;
mod giving_up;
mod groups;
mod ownership;
mod pool;
mod records;
mod restraint;
mod rows;
mod syncs;
mod transitions;
