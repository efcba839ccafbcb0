//! What a recurring task of a worker says of its failures: the first at once, the others summed up at growing intervals, and
//! that it works again. A database that is away for an hour would otherwise make a line every few seconds for each task.

use std::time::Instant;

use rag_telemetry::Growing;

use crate::step_error::StepError;

/// One task's log.
#[derive(Debug)]
pub(crate) struct RecurringLog {
    task: &'static str,
    lines: Growing,
    /// Since when each round has failed.
    failing_since: Option<Instant>,
}

impl RecurringLog {
    /// `task`: what is done, "end builds whose jobs are over" say.
    pub(crate) fn new(task: &'static str) -> Self {
        Self {
            task,
            lines: Growing::default(),
            failing_since: None,
        }
    }

    /// Notes how a round ended.
    pub(crate) fn note(&mut self, outcome: Result<(), StepError>) {
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                if let Some(since) = self.failing_since.take() {
                    let seconds = since.elapsed().as_secs();
                    self.lines = Growing::default();
                    tracing::info!(task = self.task, seconds, "the task works again");
                }
            }
            Err(error) => {
                let since = *self.failing_since.get_or_insert(now);
                if let Some(failures) = self.lines.due(now) {
                    let seconds = since.elapsed().as_secs();
                    tracing::warn!(task = self.task, %error, failures, seconds, "the task failed; it is tried again");
                }
            }
        }
    }
}
