//! Providers over real sockets: recorded answers, and everything that can go wrong between a request and its answer.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say so by panicking"
)]

mod budget;
mod calls;
mod conformance;
mod downloads;
mod faults;
mod large_uploads;
mod live;
mod paging;
mod refusals;
mod registry;
mod server;
mod uploads;
mod yandex;
mod yandex_tokens;
