//! Jobs to enqueue, and the kinds that they are of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::QueueError;
use crate::id::JobId;

const MAX_KIND: usize = 64;
const MAX_TENANT: usize = 128;
const MAX_KEY: usize = 255;
const DEFAULT_MAX_ATTEMPTS: u32 = 10;

/// A payload type and the kind its jobs go by.
pub trait JobKind {
    /// 1 to 64 characters of `A-Z a-z 0-9 _ . : -`. Stored in rows: renaming it orphans waiting jobs.
    const KIND: &'static str;
}

/// A job to enqueue.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub(crate) kind: String,
    pub(crate) payload: String,
    pub(crate) unique_key: Option<String>,
    pub(crate) concurrency_key: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) priority: i16,
    pub(crate) delay: Duration,
    pub(crate) max_attempts: u32,
    pub(crate) trace_context: Option<String>,
}

impl NewJob {
    /// A job of `kind` whose payload is stored as JSON.
    pub fn new(kind: &str, payload: &impl Serialize) -> Result<Self, QueueError> {
        if !is_kind(kind) {
            return Err(QueueError::InvalidKind(kind.to_owned()));
        }
        Ok(Self {
            kind: kind.to_owned(),
            payload: serde_json::to_string(payload).map_err(QueueError::Payload)?,
            unique_key: None,
            concurrency_key: None,
            tenant: None,
            priority: 0,
            delay: Duration::ZERO,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            trace_context: None,
        })
    }

    /// A job of the payload's own kind.
    pub fn of<J: JobKind + Serialize>(payload: &J) -> Result<Self, QueueError> {
        Self::new(J::KIND, payload)
    }

    /// While a job of the same kind with this key is not over, enqueueing returns that one. At most 255 characters,
    /// compared byte by byte.
    #[must_use]
    pub fn unique_key(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// Jobs with the same key, of whatever kind, never run at the same time: one has the key from the moment it is
    /// ready until it is over (backoffs and snoozes included), the others are blocked meanwhile. At most 255
    /// characters, compared byte by byte.
    #[must_use]
    pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
        self.concurrency_key = Some(key.into());
        self
    }

    /// Whose job it is; only for listing. At most 128 characters.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// One point is worth one minute of waiting: a job of priority 5 goes before one of priority 0 that was enqueued
    /// less than five minutes earlier. So no priority waits for ever behind another.
    #[must_use]
    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this time from now, by the database's clock.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How many failures end the job (at least 1; 10 unless set). Snoozes, shutdowns and lost leases do not count.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts.max(1);
        self
    }

    /// Carried along for the handler, say a W3C `traceparent`. Cut at 255 characters.
    #[must_use]
    pub fn trace_context(mut self, trace_context: impl Into<String>) -> Self {
        let mut text: String = trace_context.into();
        if let Some((end, _)) = text.char_indices().nth(MAX_KEY) {
            text.truncate(end);
        }
        self.trace_context = Some(text);
        self
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn check_lengths(&self) -> Result<(), QueueError> {
        let limits = [
            ("unique key", &self.unique_key, MAX_KEY),
            ("concurrency key", &self.concurrency_key, MAX_KEY),
            ("tenant", &self.tenant, MAX_TENANT),
        ];
        for (what, text, limit) in limits {
            if text.as_ref().is_some_and(|text| text.chars().count() > limit) {
                return Err(QueueError::TooLong { what, limit });
            }
        }
        Ok(())
    }
}

/// Kinds go into SQL text where a placeholder cannot; this is what makes that safe.
pub(crate) fn is_kind(kind: &str) -> bool {
    (1..=MAX_KIND).contains(&kind.len())
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
}

/// What became of an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueued {
    pub id: JobId,
    /// The job was there already: active, with the same kind and unique key.
    pub existing: bool,
}
