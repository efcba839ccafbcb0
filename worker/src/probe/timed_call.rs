//! One call of a probe, with the time it took. A rate limit is waited for, within reason: it says nothing about an operation.

use std::time::{Duration, Instant};

use rag_providers::{ErrorKind, ProviderError};

const MAX_TRIES: u32 = 4;
/// Without a hint.
const PAUSE: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What a call came to.
pub(super) struct TimedCall<T> {
    pub(super) result: Result<T, ProviderError>,
    /// Of the last try alone.
    pub(super) latency_ms: u64,
}

/// Calls, and calls again after a rate limit: `timed!(async { … })` is a [`TimedCall`]. (A macro: a function over async closures
/// would lose the proof that its future is `Send`.)
macro_rules! timed {
    ($call:expr) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            let started = std::time::Instant::now();
            let result: Result<_, rag_providers::ProviderError> = $call.await;
            let latency_ms = $crate::probe::timed_call::millis(started);
            match $crate::probe::timed_call::pause_after(&result, tries) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break $crate::probe::timed_call::TimedCall { result, latency_ms },
            }
        }
    }};
}
pub(super) use timed;

/// How long to wait before another try, if there is to be one.
pub(super) fn pause_after<T>(result: &Result<T, ProviderError>, tries: u32) -> Option<Duration> {
    let error = result.as_ref().err()?;
    let again = error.kind == ErrorKind::RateLimited && tries < MAX_TRIES;
    again.then(|| error.retry_after.unwrap_or(PAUSE).min(LONGEST_PAUSE))
}

/// Milliseconds since then.
pub(super) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
