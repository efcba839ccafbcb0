//! Serving HTTP/1 and HTTP/2 to callers who may be slow, silent, or too many.
//!
//! What a connection may cost is in [`Limits`]:
//!
//! - It is closed when no whole head of a request arrives in time, be it that nothing was sent at all, or half of a head,
//!   or half of HTTP/2's preface. Requests that run, wait or stream events keep it open for as long as they take.
//! - There are caps for all connections and for those of one address. What comes on top is closed at once.
//! - An answer is given up when the caller takes nothing of it for a while, or less than a least rate. Whatever the answer
//!   held (a file, a permit for a transfer) is free then.
//!
//! Both caps survive a flood: refused connections are counted in a metric and logged at growing intervals, and when the
//! process runs out of file descriptors the server goes on accepting as soon as there are some again.
//!
//! Hand-written because no kept crate has it: hyper's `header_read_timeout` is for HTTP/1 and for begun heads only, and
//! tower-http's `TimeoutLayer` and `TimeoutBody` end requests and not the connection of a caller who takes nothing.
//!
//! Not here: what is served, how many requests are carried out at once, and how large bodies may be (the API).

mod activity;
mod admission;
mod answer;
mod limits;
mod rate;
mod serve;
mod stream;

pub use limits::Limits;
pub use rate::{LeastRate, Progress, Stalled};
pub use serve::serve;
