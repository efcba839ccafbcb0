//! MariaDB servers of a test's own, so that nobody else notices what is done to them.
//!
//! `programs` says where the server's programs come from, `server` runs one.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "tests report by panicking"
)]

mod programs;
mod server;

pub use server::{Server, ServerBuilder};
