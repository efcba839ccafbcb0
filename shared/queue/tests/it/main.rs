//! Tests against a real MariaDB, one database per test. `DATABASE_URL` must name a server on which the user may create
//! databases.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod claims;
mod enqueue;
mod keys;
mod operate;
mod outage;
mod outage_content;
mod outage_states;
mod plan;
mod processes;
mod support;
mod unkept;
mod workers;
