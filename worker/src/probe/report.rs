//! A probe in progress: what it has found so far.

use rag_connections::Learned;
use rag_jobs::{Check, CheckResult};
use rag_providers::{Ability, ErrorKind, ProviderError};

use super::resources::Resources;
use super::timed_call::TimedCall;
use crate::lease::Scope;
use crate::step_error::StepError;

/// A probe in progress.
pub(super) struct Probe<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) learned: &'a Learned,
    pub(super) resources: Resources<'a>,
    pub(super) checks: Vec<Check>,
    /// The first reason why builds can't work.
    pub(super) obstacle: Option<String>,
}

impl Probe<'_> {
    /// Notes a check.
    pub(super) fn note(
        &mut self,
        name: &str,
        result: CheckResult,
        detail: impl Into<String>,
        latency_ms: Option<u64>,
    ) {
        let detail = detail.into();
        tracing::debug!(check = name, result = result.as_str(), detail, "probed");
        self.checks.push(Check {
            name: name.to_owned(),
            result,
            detail,
            latency_ms,
        });
    }

    /// Notes a call that failed. `needed`: builds can't do without it.
    pub(super) fn note_error(&mut self, name: &str, error: &ProviderError, latency_ms: u64, needed: bool) {
        let result = match error.kind {
            ErrorKind::Unsupported => CheckResult::Missing,
            _ => CheckResult::Failed,
        };
        self.note(name, result, error.to_string(), Some(latency_ms));
        if needed && self.obstacle.is_none() {
            self.obstacle = Some(obstacle(error));
        }
    }

    /// Notes a call that worked or failed, and hands on what it answered.
    pub(super) fn note_call<T>(
        &mut self,
        name: &str,
        tried: TimedCall<T>,
        needed: bool,
        detail: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match tried.result {
            Ok(answer) => {
                let text = detail(&answer);
                self.note(name, CheckResult::Works, text, Some(tried.latency_ms));
                Some(answer)
            }
            Err(error) => {
                self.note_error(name, &error, tried.latency_ms, needed);
                None
            }
        }
    }

    pub(super) fn skip(&mut self, name: &str, why: &str) {
        self.note(name, CheckResult::Skipped, why, None);
    }

    /// Tells the builds to come.
    pub(super) async fn learn(&self, ability: Ability, holds: bool, how: &str) -> Result<(), StepError> {
        let mut db = self.scope.context.pool.acquire().await?;
        Ok(self.learned.learn(&mut db, ability, holds, how).await?)
    }
}

/// What a first failure says to an admin who connects a provider for the first time.
fn obstacle(error: &ProviderError) -> String {
    let meaning = match error.kind {
        ErrorKind::Unauthorized => "the provider refuses the credentials",
        ErrorKind::QuotaExceeded => "the account is exhausted",
        ErrorKind::Timeout | ErrorKind::Unavailable => "the provider can't be reached, or does not answer",
        ErrorKind::Protocol | ErrorKind::Unsupported | ErrorKind::NotFound => {
            "what answers at the base URL does not speak the OpenAI protocol there"
        }
        ErrorKind::RateLimited => "the provider limits the rate, and went on doing so",
        ErrorKind::Disabled => "the connection may not be used",
        _ => "an operation that builds need failed",
    };
    format!("{meaning}: {error}")
}
