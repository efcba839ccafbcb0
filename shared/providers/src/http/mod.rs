//! The transport every adapter shares: one client per connection, destinations checked when connecting, timeouts, short
//! retries of what may be repeated, and one classification of everything that can go wrong. It knows JSON and bytes; which
//! paths and fields exist is `protocol`'s matter.

mod absence;
pub(crate) mod auth;
pub(crate) mod call;
pub(crate) mod classify;
mod content;
mod error_body;
mod exhausted;
pub(crate) mod guard;
mod outcome;
mod redact;
mod retry_after;
pub(crate) mod transport;
mod upload;

pub(crate) use auth::{ApiKey, Authorizer, NoAuth, authorization};
pub(crate) use call::Call;
pub(crate) use redact::Redactor;
pub(crate) use transport::{Answer, Transport};
pub(crate) use upload::{Digest, MultipartFile, Taken};
