//! How a handler ends. What the queue makes of it is in `ack`.

use std::time::Duration;

use serde_json::Value;

/// What a handler returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Finished; the value is kept as the job's output ([`Value::Null`]: none).
    Done(Value),
    /// Failed: spends an attempt. Runs again after a backoff, not before `after`; out of attempts, the job is failed.
    Retry { error: String, after: Option<Duration> },
    /// Not ready yet: run it again after a while. Spends no attempt and holds no slot meanwhile.
    Snooze { after: Duration, reason: Option<String> },
    /// The handler stopped because [`Claim::cancellation`](crate::Claim::cancellation) fired. The queue knows why: a
    /// cancelled job is cancelled, one interrupted by a shutdown is released without spending an attempt.
    Cancelled,
    /// No attempt will help.
    Fail { error: String },
}

impl Outcome {
    /// Done, without an output.
    pub const fn done() -> Self {
        Self::Done(Value::Null)
    }

    /// A failure that is worth another try; the text is the error with its sources.
    pub fn retry(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Retry {
            error: error_chain(error),
            after: None,
        }
    }

    /// A failure that no attempt will mend; the text is the error with its sources.
    pub fn fail(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Fail {
            error: error_chain(error),
        }
    }
}

/// What a handler's return type must offer. An `Err` of a handler that returns a `Result` is a retry, unless
/// it is a transient [`QueueError`](crate::QueueError): then it is a snooze.
pub trait IntoOutcome {
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::done()
    }
}

/// The error and its sources in one line.
pub(crate) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
