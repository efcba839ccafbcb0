//! What an owner can set. Every process of a fleet should use the same values for `lease` and `max_lease_losses`.

use std::time::Duration;

/// Settings of a queue.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// How long a claim lasts unless its process extends it; it does so every third of this. A process that was killed
    /// loses its jobs to others after this time.
    pub lease: Duration,
    /// A job whose lease was lost this often, without progress in between ([`Claim::progress`](crate::Claim::progress)), is
    /// failed: something about it kills workers.
    pub max_lease_losses: u16,
    /// The first failure waits up to this, each further one up to twice as long (full jitter)…
    pub backoff_base: Duration,
    /// … but never up to more than this.
    pub backoff_cap: Duration,
    /// How an idle worker learns of new jobs.
    pub wait: Wait,
    /// At most this many jobs are claimed, and this many acknowledged, in one statement. How many are claimed goes by the
    /// slots that are free, see [`StorageConfig::prefetch`](crate::StorageConfig::prefetch).
    pub batch: usize,
    /// When finished jobs are deleted.
    pub retention: Retention,
    /// Longer outputs are replaced by a mark with their length and beginning. Bytes.
    pub max_output_bytes: usize,
    /// Longer error texts are cut, with a mark. Bytes.
    pub max_error_bytes: usize,
    /// How many ended claims a job's history keeps.
    pub max_history: usize,
}

/// How an idle worker learns of jobs that other processes enqueued. Jobs of its own process are announced by
/// [`Queue::notify`](crate::Queue::notify).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// One statement a second that polls every `step` on the server's side, and six times as often for two seconds after a
    /// job: quick (half of that on average) at one client statement a second. Needs a direct connection, or a proxy that lets compound statements through.
    Server { step: Duration },
    /// The client polls: after `min` when it was busy, then ever more slowly up to `max`.
    Client { min: Duration, max: Duration },
}

/// How long finished jobs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Zero: a job that is done is deleted by what ends it, which costs less than keeping it. Whoever asks for it then finds
    /// none.
    pub done: Duration,
    pub cancelled: Duration,
    pub failed: Duration,
}

impl Retention {
    pub(crate) const fn keeps_done(&self) -> bool {
        !self.done.is_zero()
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            max_lease_losses: 5,
            backoff_base: Duration::from_secs(5),
            backoff_cap: Duration::from_mins(15),
            wait: Wait::Server {
                step: Duration::from_millis(30),
            },
            batch: 500,
            retention: Retention::default(),
            max_output_bytes: 256 * 1024,
            max_error_bytes: 8 * 1024,
            max_history: 20,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            done: DAY * 7,
            cancelled: DAY * 7,
            failed: DAY * 30,
        }
    }
}
