//! Says that a task cannot do its work: once at the beginning, with the cause; then at growing intervals; once when it is
//! over. Neither a line per try, nor silence.

use std::time::{Duration, Instant};

use crate::errors::{Cause, cause};

/// After the first line; then twice as long each time, up to the last.
const FIRST_INTERVAL: Duration = Duration::from_secs(10);
const LAST_INTERVAL: Duration = Duration::from_mins(5);
/// Another cause is news, but two that take turns are not.
const BETWEEN_CAUSES: Duration = Duration::from_secs(2);
/// Transactions that meet each other are everyday life; so many in a row are not.
const CONFLICTS_IN_A_ROW: u32 = 10;

/// One task's log of failures.
#[derive(Debug)]
pub struct OutageLog {
    task: &'static str,
    /// Consecutive.
    failures: u32,
    since: Option<Instant>,
    said: Option<Said>,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    at: Instant,
    cause: Cause,
    interval: Duration,
}

impl OutageLog {
    /// `task`: what the program does there, "keep leases" say.
    pub const fn new(task: &'static str) -> Self {
        Self {
            task,
            failures: 0,
            since: None,
            said: None,
        }
    }

    pub const fn task(&self) -> &'static str {
        self.task
    }

    /// Consecutive failures so far.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Since when it fails, if it does.
    pub const fn failing_since(&self) -> Option<Instant> {
        self.since
    }

    /// Notes a failure.
    pub fn failed(&mut self, error: &sqlx::Error) {
        let now = Instant::now();
        let failing_for = now.saturating_duration_since(*self.since.get_or_insert(now));
        self.failures = self.failures.saturating_add(1);
        let (task, failures, cause) = (self.task, self.failures, cause(error));
        if !self.is_news(now, cause) {
            tracing::debug!(task, %error, failures, "the database still fails");
            return;
        }
        let seconds = failing_for.as_secs();
        if self.said.is_none() {
            tracing::warn!(task, cause = cause.as_str(), %error, "the database fails; trying until it works");
        } else {
            tracing::warn!(
                task,
                cause = cause.as_str(),
                %error,
                failures,
                seconds,
                "the database still fails; trying until it works"
            );
        }
        let interval = match self.said {
            Some(said) if said.cause == cause => (said.interval * 2).min(LAST_INTERVAL),
            Some(said) => said.interval,
            None => FIRST_INTERVAL,
        };
        self.said = Some(Said {
            at: now,
            cause,
            interval,
        });
    }

    /// Notes a success.
    pub fn succeeded(&mut self) {
        if self.said.take().is_some() {
            let seconds = self.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
            tracing::info!(
                task = self.task,
                failures = self.failures,
                seconds,
                "the database works again"
            );
        }
        (self.failures, self.since) = (0, None);
    }

    /// There is nothing to do any more, so nothing fails.
    pub const fn reset(&mut self) {
        (self.failures, self.since, self.said) = (0, None, None);
    }

    fn is_news(&self, now: Instant, cause: Cause) -> bool {
        match self.said {
            None => cause != Cause::Conflict || self.failures >= CONFLICTS_IN_A_ROW,
            Some(said) => {
                let silent_for = now.saturating_duration_since(said.at);
                silent_for >= said.interval || (said.cause != cause && silent_for >= BETWEEN_CAUSES)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_at_its_beginning_and_then_ever_more_seldom() {
        let mut log = OutageLog::new("t");
        let mut now = Instant::now();
        assert!(log.is_news(now, Cause::ReadOnly));
        log.failed(&crate::errors::read_only());
        let mut said = 1;
        for _ in 0..600 {
            now += Duration::from_secs(1);
            if log.is_news(now, Cause::ReadOnly) {
                said += 1;
                let interval = log.said.unwrap().interval;
                log.said = Some(Said {
                    at: now,
                    cause: Cause::ReadOnly,
                    interval: (interval * 2).min(LAST_INTERVAL),
                });
            }
        }
        // After 10, 20, 40, 80, 160 seconds, and 300.
        assert_eq!(said, 6);
        log.succeeded();
        assert_eq!(log.failing_since(), None);
        assert!(log.is_news(now, Cause::ReadOnly));
    }

    #[test]
    fn another_cause_is_news_and_a_deadlock_is_not() {
        let mut log = OutageLog::new("t");
        let now = Instant::now();
        assert!(!log.is_news(now, Cause::Conflict));
        log.failed(&crate::errors::read_only());
        let later = Instant::now() + BETWEEN_CAUSES;
        assert!(!log.is_news(later, Cause::ReadOnly));
        assert!(log.is_news(later, Cause::Account));
    }
}
