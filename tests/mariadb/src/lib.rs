//! MariaDB servers of a test's own, so that nobody else notices what is done to them.
//!
//! `programs` says where the server's programs come from, `server` runs one; `proxy` stands between it and its clients.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "tests report by panicking"
)]

mod programs;
mod proxy;
mod server;

pub use proxy::Proxy;
pub use server::{Server, ServerBuilder};
