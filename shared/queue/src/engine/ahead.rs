//! How many jobs of a kind are claimed ahead of its handlers: as many as they have lately got done in a moment, so that the
//! handlers have work while the next batch is being claimed, and a job does not wait here for longer than that while another
//! process has a free slot.

use std::time::Duration;

use tokio::time::Instant;

/// As many jobs as are done in this time are claimed ahead.
const HORIZON: Duration = Duration::from_millis(60);
/// The rate is taken over at least this time.
const WINDOW: Duration = Duration::from_millis(20);

pub(super) struct Ahead {
    pub(super) jobs: usize,
    max: usize,
    since: Option<Instant>,
    done: u32,
}

impl Ahead {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            jobs: 0,
            max,
            since: None,
            done: 0,
        }
    }

    /// A handler has ended.
    pub(super) fn count(&mut self, now: Instant) {
        self.done += 1;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed < WINDOW {
            return;
        }
        let jobs = (HORIZON * self.done).as_nanos() / elapsed.as_nanos().max(1);
        self.jobs = usize::try_from(jobs).unwrap_or(usize::MAX).min(self.max);
        (self.since, self.done) = (Some(now), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(max: usize, jobs: u32, apart: Duration) -> usize {
        let (mut ahead, start) = (Ahead::new(max), Instant::now());
        for at in 0..jobs {
            ahead.count(start + apart * at);
        }
        ahead.jobs
    }

    #[test]
    fn quick_jobs_are_claimed_ahead_and_slow_ones_are_not() {
        let quick = after(1000, 1000, Duration::from_micros(100));
        assert!((590..=610).contains(&quick), "{quick}");
        assert_eq!(after(100, 1000, Duration::from_micros(100)), 100);
        assert_eq!(after(1000, 5, Duration::from_millis(500)), 0);
        assert_eq!(after(0, 1000, Duration::from_micros(100)), 0);
    }

    #[test]
    fn a_rate_is_forgotten_with_the_first_slow_job() {
        let (mut ahead, start) = (Ahead::new(1000), Instant::now());
        for at in 0..300 {
            ahead.count(start + Duration::from_micros(100) * at);
        }
        assert!(ahead.jobs > 100);
        ahead.count(start + Duration::from_secs(5));
        assert!(ahead.jobs < 5, "{}", ahead.jobs);
    }
}
