//! Providers over real sockets: recorded answers, and everything that can go wrong between a request and its answer.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say so by panicking"
)]

mod budget;
mod calls;
mod conformance;
mod faults;
mod live;
mod refusals;
mod registry;
mod server;
mod transfers;
mod yandex;
