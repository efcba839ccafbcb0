//! Calls that read a provider, as many at once as it takes (`rag_connections::Throttle`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rag_connections::{Entry, Throttle};
use rag_providers::{ErrorKind, ProviderError};
use tokio::sync::Notify;

/// Whoever asked first comes first.
#[derive(Debug)]
pub(crate) struct Calls {
    throttle: Arc<Throttle>,
    waiting: AtomicUsize,
    room: Notify,
}

impl Calls {
    pub(crate) fn new(throttle: Arc<Throttle>) -> Self {
        Self {
            throttle,
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// Makes a call when its turn has come.
    pub(crate) async fn make<T>(
        &self,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        self.turn().await.make(call).await
    }

    /// Waits for its turn. For several calls in a row, and for answers that take long to read: the turn is over when this is
    /// dropped.
    pub(crate) async fn turn(&self) -> Turn {
        let waiting = Waiting::new(self);
        let entry = self.throttle.enter().await;
        drop(waiting);
        Turn {
            entry: Some(entry),
            took: None,
        }
    }

    /// How many calls may be under way now.
    pub(crate) fn limit(&self) -> usize {
        self.throttle.limit()
    }

    /// Nobody waits for a turn.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// The last one that waited has its turn.
    pub(crate) async fn until_room(&self) {
        self.room.notified().await;
    }
}

/// Counts one that waits, also if it stops waiting.
struct Waiting<'a>(&'a Calls);

impl<'a> Waiting<'a> {
    fn new(calls: &'a Calls) -> Self {
        calls.waiting.fetch_add(1, Ordering::Relaxed);
        Self(calls)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.room.notify_one();
        }
    }
}

/// One call's place among those that are under way.
#[must_use = "the next call may begin when this is dropped"]
pub(crate) struct Turn {
    entry: Option<Entry>,
    /// From the last request to the head of its answer: what comes after it depends on the size of a file.
    took: Option<Duration>,
}

impl Turn {
    /// Makes the call, and tells the throttle how it went.
    pub(crate) async fn make<T>(
        &mut self,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let began = Instant::now();
        let result = call.await;
        match &result {
            Ok(_) => self.took = Some(began.elapsed()),
            Err(error) if error.kind == ErrorKind::RateLimited => {
                if let Some(entry) = self.entry.take() {
                    entry.refused();
                }
            }
            Err(_) => {}
        }
        result
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let (Some(entry), Some(took)) = (self.entry.take(), self.took) {
            entry.answered(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use rag_providers::Operation;

    use super::*;

    fn calls() -> Calls {
        Calls::new(Arc::new(Throttle::new(32)))
    }

    #[test]
    fn calls_wait_for_their_turn_and_say_that_they_do() {
        let calls = calls();
        let mut turns: Vec<_> = (0..4).map(|_| calls.turn().now_or_never().unwrap()).collect();
        let mut fifth = Box::pin(calls.turn());
        assert!(fifth.as_mut().now_or_never().is_none());
        assert!(!calls.has_room());
        turns.pop();
        assert!(fifth.as_mut().now_or_never().is_some());
        assert!(calls.has_room());
        assert!(calls.until_room().now_or_never().is_some());
    }

    #[test]
    fn who_gives_up_does_not_wait_any_more() {
        let calls = calls();
        let _turns: Vec<_> = (0..4).map(|_| calls.turn().now_or_never().unwrap()).collect();
        let mut waits = Box::pin(calls.turn());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(waits);
        assert!(calls.has_room());
    }

    #[tokio::test]
    async fn a_refusal_halves_the_limit_and_an_absent_file_does_not() {
        let calls = calls();
        let refuse =
            |kind| async move { Err::<(), _>(ProviderError::new(kind, Operation::FileContent, "no")) };
        let _ = calls.make(refuse(ErrorKind::NotFound)).await;
        assert_eq!(calls.limit(), 4);
        let _ = calls.make(refuse(ErrorKind::RateLimited)).await;
        assert_eq!(calls.limit(), 2);
    }
}
