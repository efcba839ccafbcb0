//! MariaDB servers of a test's own, so that nobody else notices what is done to them.
//!
//! `programs` says where the server's programs come from, `server` runs one; `proxy` stands between it and its clients;
//! `certificates` makes what TLS needs.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "tests report by panicking"
)]

pub mod certificates;
mod programs;
mod proxy;
mod server;

pub use certificates::{Authority, Certificate};
pub use proxy::Proxy;
pub use server::{Server, ServerBuilder};
