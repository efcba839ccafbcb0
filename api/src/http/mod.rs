//! What every request meets before its handler, and what handlers answer with. Knows no resource.
//!
//! From the outside in: [`server`] (connections), [`edge`] (request id, log line, panics, problem bodies), [`limits`],
//! [`auth`], [`idempotency`], [`undeclared`]; then the handler with [`extract`], [`upload`], [`validate`], [`paging`] and [`problem`].

pub(crate) mod auth;
pub(crate) mod edge;
pub(crate) mod extract;
pub(crate) mod idempotency;
pub(crate) mod limits;
pub(crate) mod paging;
pub(crate) mod problem;
pub(crate) mod server;
pub(crate) mod undeclared;
pub(crate) mod upload;
pub(crate) mod validate;
