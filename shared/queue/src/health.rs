//! How this process's queue works with its database: which of the engine's tasks fail, since when, and why.
//!
//! For readiness and metrics. Nothing here decides what is tried again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rag_mariadb::{Cause, cause};

/// A restart of the server, or a deadlock, is over sooner.
const FAILS_AFTER: Duration = Duration::from_secs(3);
/// The longest statement of a task waits for a second by itself.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Why the queue does not work: one of its tasks has failed for more than a few seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFailure {
    /// "poll for work", "claim", "keep leases" or "acknowledge".
    pub task: &'static str,
    pub lasts: Duration,
    /// `None`: the database does not answer at all.
    pub cause: Option<Cause>,
    /// The latest error: the server's number and text.
    pub error: String,
}

impl fmt::Display for QueueFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the queue has not been able to {} for {} s: {}",
            self.task,
            self.lasts.as_secs(),
            self.error
        )
    }
}

/// How often a task has failed for a cause since this process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    pub task: &'static str,
    pub cause: Cause,
    pub count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tasks: BTreeMap<&'static str, Task>,
    failures: BTreeMap<(&'static str, Cause), u64>,
}

#[derive(Debug, Default)]
struct Task {
    /// A statement is under way.
    asked_at: Option<Instant>,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    cause: Cause,
    error: String,
}

impl Health {
    pub(crate) fn asks(&self, task: &'static str) {
        self.state().tasks.entry(task).or_default().asked_at = Some(Instant::now());
    }

    pub(crate) fn failed(&self, task: &'static str, error: &sqlx::Error) {
        let (now, cause) = (Instant::now(), cause(error));
        let mut state = self.state();
        *state.failures.entry((task, cause)).or_default() += 1;
        let task = state.tasks.entry(task).or_default();
        task.asked_at = None;
        let since = task.failing.as_ref().map_or(now, |failing| failing.since);
        task.failing = Some(Failing {
            since,
            cause,
            error: error.to_string(),
        });
    }

    /// Counts a failure of something that does not keep the queue from working.
    pub(crate) fn count(&self, task: &'static str, error: &sqlx::Error) {
        *self.state().failures.entry((task, cause(error))).or_default() += 1;
    }

    /// It has succeeded, or there is nothing for it to do.
    pub(crate) fn is_well(&self, task: &'static str) {
        self.state().tasks.insert(task, Task::default());
    }

    /// The engine has ended.
    pub(crate) fn forget_tasks(&self) {
        self.state().tasks.clear();
    }

    /// The failure that has lasted longest, if any has lasted long enough.
    pub(crate) fn failure(&self) -> Option<QueueFailure> {
        let now = Instant::now();
        let state = self.state();
        let failures = state
            .tasks
            .iter()
            .filter_map(|(name, task)| task.failure(name, now));
        failures.max_by_key(|failure| failure.lasts)
    }

    pub(crate) fn failures(&self) -> Vec<Failures> {
        let state = self.state();
        let failures = state.failures.iter();
        failures
            .map(|((task, cause), count)| Failures {
                task,
                cause: *cause,
                count: *count,
            })
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    fn failure(&self, name: &'static str, now: Instant) -> Option<QueueFailure> {
        if let Some(failing) = &self.failing {
            let lasts = now.saturating_duration_since(failing.since);
            return (lasts >= FAILS_AFTER).then(|| QueueFailure {
                task: name,
                lasts,
                cause: Some(failing.cause),
                error: failing.error.clone(),
            });
        }
        let lasts = now.saturating_duration_since(self.asked_at?);
        (lasts >= SILENT_AFTER).then(|| QueueFailure {
            task: name,
            lasts,
            cause: None,
            error: "the database does not answer".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_in_trouble_after_some_seconds_and_until_it_succeeds() {
        let mut task = Task::default();
        let now = Instant::now();
        assert_eq!(task.failure("claim", now), None);
        task.failing = Some(Failing {
            since: now,
            cause: Cause::ReadOnly,
            error: "why".to_owned(),
        });
        assert_eq!(task.failure("claim", now + FAILS_AFTER / 2), None);
        let failure = task.failure("claim", now + FAILS_AFTER).unwrap();
        assert_eq!(
            failure.to_string(),
            "the queue has not been able to claim for 3 s: why"
        );
    }

    #[test]
    fn silence_is_trouble_too() {
        let now = Instant::now();
        let task = Task {
            asked_at: Some(now),
            failing: None,
        };
        assert_eq!(task.failure("claim", now + FAILS_AFTER), None);
        assert_eq!(task.failure("claim", now + SILENT_AFTER).unwrap().cause, None);
    }

    #[test]
    fn failures_are_counted_by_cause() {
        let health = Health::default();
        for _ in 0..2 {
            health.failed("claim", &sqlx::Error::PoolTimedOut);
        }
        health.is_well("claim");
        assert_eq!(
            health.failures(),
            [Failures {
                task: "claim",
                cause: Cause::Outage,
                count: 2
            }]
        );
        assert_eq!(health.failure(), None);
    }
}
