//! How many requests one process has under way at a connection, by what it sees of the answers ([`ConcurrencyLimit`]).
//!
//! All builds of a process at a connection share one throttle, first come, first served; each process of a fleet measures for
//! itself, and as all of them meet the same latency and the same refusals, they come to like shares without talking to each
//! other. The connection's own limits (`budget`, `slots`) stay above it.
//!
//! Written here because `tower` has fixed limits only, and `congestion-limiter` 0.1, the only release, has no quick start and
//! does not tell a second refusal of the same round trip from a new one.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rag_domain::{ConcurrencyLimit, Period};
use tokio::sync::Semaphore;

/// A limit of requests under way that follows the provider.
#[derive(Debug)]
pub struct Throttle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: ConcurrencyLimit,
    /// So many requests are under way beyond the limit, which was lowered: their permits do not come back.
    excess: usize,
}

impl Throttle {
    /// Never more than `ceiling` requests are under way.
    pub fn new(ceiling: usize) -> Self {
        let limit = ConcurrencyLimit::new(ceiling);
        Self {
            shared: Arc::new(Shared {
                permits: Semaphore::new(limit.limit()),
                state: Mutex::new(State { limit, excess: 0 }),
            }),
        }
    }

    /// Waits until one more request may begin. Whoever asked first comes first; who stops waiting loses nothing.
    pub async fn enter(&self) -> Entry {
        // The semaphore is never closed.
        if let Ok(permit) = self.shared.permits.acquire().await {
            permit.forget();
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let under_way = state.under_way(&shared.permits);
        let period = state.limit.began(under_way);
        drop(state);
        Entry { shared, period }
    }

    /// How many requests may be under way now.
    pub fn limit(&self) -> usize {
        self.shared.state().limit.limit()
    }

    /// The limit stays at or below this from now on.
    pub fn set_ceiling(&self, ceiling: usize) {
        self.shared.change(|limit| limit.set_ceiling(ceiling));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut ConcurrencyLimit)) {
        let mut state = self.state();
        let before = state.limit.limit();
        change(&mut state.limit);
        let now = state.limit.limit();
        self.release(&mut state, now.saturating_sub(before));
        let fewer = before.saturating_sub(now);
        state.excess += fewer - self.permits.forget_permits(fewer);
    }

    fn release(&self, state: &mut State, permits: usize) {
        let kept_back = permits.min(state.excess);
        state.excess -= kept_back;
        self.permits.add_permits(permits - kept_back);
    }
}

impl State {
    fn under_way(&self, permits: &Semaphore) -> usize {
        (self.limit.limit() + self.excess).saturating_sub(permits.available_permits())
    }
}

/// A request that may be sent. Dropped, it makes room for the next and says nothing about the provider.
#[must_use = "the next request may begin when this is dropped"]
pub struct Entry {
    shared: Arc<Shared>,
    period: Period,
}

impl Entry {
    /// The provider answered, so long after the request was sent: waits for budgets are not part of it.
    pub fn answered(self, took: Duration) {
        self.shared.change(|limit| limit.answered(self.period, took));
    }

    /// The provider said that there were too many requests.
    pub fn refused(self) {
        self.shared.change(|limit| limit.refused(self.period));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        self.shared.release(&mut state, 1);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const TOOK: Duration = Duration::from_millis(100);

    /// As many entries as there are without waiting.
    fn enter_all(throttle: &Throttle) -> Vec<Entry> {
        std::iter::from_fn(|| throttle.enter().now_or_never()).collect()
    }

    fn grown(ceiling: usize) -> Throttle {
        let throttle = Throttle::new(ceiling);
        while throttle.limit() < ceiling {
            for entry in enter_all(&throttle) {
                entry.answered(TOOK);
            }
        }
        throttle
    }

    #[test]
    fn answers_make_room_up_to_the_ceiling() {
        let throttle = grown(32);
        assert_eq!(enter_all(&throttle).len(), 32);
        for _ in 0..100 {
            for entry in enter_all(&throttle) {
                entry.answered(TOOK);
            }
        }
        assert_eq!(enter_all(&throttle).len(), 32);
    }

    #[test]
    fn after_a_refusal_half_as_many_are_under_way() {
        let throttle = grown(32);
        let mut entries = enter_all(&throttle);
        entries.pop().unwrap().refused();
        assert_eq!(throttle.limit(), 16);
        for _ in 0..15 {
            assert!(throttle.enter().now_or_never().is_none());
            drop(entries.pop());
        }
        assert_eq!(entries.len(), 16, "all that are allowed");
        assert!(throttle.enter().now_or_never().is_none());
        drop(entries.pop());
        assert!(throttle.enter().now_or_never().is_some());
    }

    #[test]
    fn a_dropped_entry_gives_its_permit_back_and_counts_for_nothing() {
        let throttle = Throttle::new(32);
        for _ in 0..100 {
            drop(enter_all(&throttle));
        }
        assert_eq!(throttle.limit(), 4);
        assert_eq!(enter_all(&throttle).len(), 4);
    }

    #[test]
    fn who_waits_comes_in_turn_and_who_gives_up_loses_no_permit() {
        let throttle = Throttle::new(1);
        let held = throttle.enter().now_or_never().unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(throttle.enter())).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        drop(held);
        // The permit is the first one's already, and goes on to the second when the first gives up.
        assert!(throttle.enter().now_or_never().is_none());
        drop(waiting.remove(0));
        assert!(waiting[1].as_mut().now_or_never().is_none());
        let second = waiting[0].as_mut().now_or_never().unwrap();
        drop(second);
        assert!(waiting[1].as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_lower_ceiling_holds_for_those_that_come() {
        let throttle = grown(32);
        let entries = enter_all(&throttle);
        throttle.set_ceiling(8);
        drop(entries);
        assert_eq!(enter_all(&throttle).len(), 8);
        throttle.set_ceiling(16);
        assert_eq!(throttle.limit(), 8, "a higher one is reached by answers");
    }
}
