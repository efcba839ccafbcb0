//! One call of a probe, with the time it took. A rate limit is waited for, within reason: it says nothing about an operation.

use std::time::Duration;

use rag_providers::{ErrorKind, ProviderError};

const MOST_TRIES: u32 = 4;
/// Without a hint.
const PAUSE: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What a call came to.
pub(super) struct Tried<T> {
    pub(super) result: Result<T, ProviderError>,
    /// Of the last try alone.
    pub(super) latency_ms: u64,
}

/// Calls, and calls again after a rate limit: `timed!(async { … })` is a [`Tried`]. (A macro: a function over async closures
/// would lose the proof that its future is `Send`.)
macro_rules! timed {
    ($call:expr) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            let started = std::time::Instant::now();
            let result: Result<_, rag_providers::ProviderError> = $call.await;
            let latency_ms = $crate::probe::millis(started);
            match $crate::probe::tried::pause_after(&result, tries) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break $crate::probe::tried::Tried { result, latency_ms },
            }
        }
    }};
}
pub(super) use timed;

/// How long to wait before another try, if there is to be one.
pub(super) fn pause_after<T>(result: &Result<T, ProviderError>, tries: u32) -> Option<Duration> {
    let error = result.as_ref().err()?;
    let again = error.kind == ErrorKind::RateLimited && tries < MOST_TRIES;
    again.then(|| error.retry_after.unwrap_or(PAUSE).min(LONGEST_PAUSE))
}
