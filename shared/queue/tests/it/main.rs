//! Tests against a real MariaDB, one database per test. `DATABASE_URL` must name a server on which the user may create
//! databases.

mod enqueue;
mod support;
mod workers;
