//! A probe tries at a provider what builds, syncs and deletions rely on, with one small store and three small files of its
//! own, and says for each operation whether it works, differs or is missing (`checks`). What it sees of the ways in is learned
//! for the builds to come.
//!
//! Reads and writes nothing of any index. Safe to repeat because everything it makes is in the ownership ledger and marked for
//! deletion as soon as its id is known (`belongings`): what a killed probe leaves, any worker deletes a quarter of an hour
//! later.

mod attach;
mod belongings;
mod checks;
mod tried;

use std::time::Instant;

use chrono::Utc;
use rag_connections::{ConnectError, Learned};
use rag_jobs::{Check, CheckResult, ProbeReport, ProbeVerdict, ProviderProbe};
use rag_providers::{Ability, ErrorKind, ProviderError};

use crate::halt::Halt;
use crate::pipeline::Scope;

use belongings::Belongings;
use tried::Tried;

/// A probe in progress.
struct Probe<'a> {
    scope: &'a Scope<'a>,
    learned: &'a Learned,
    belongings: Belongings<'a>,
    checks: Vec<Check>,
    /// The first reason why builds can't work.
    obstacle: Option<String>,
}

/// Carries a probe out. What the provider does wrong is in the report; an error is our own.
pub(crate) async fn probe(scope: &Scope<'_>, learned: &Learned) -> Result<ProbeReport, Halt> {
    let (started_at, started) = (Utc::now(), Instant::now());
    let mut probe = Probe {
        scope,
        learned,
        belongings: Belongings::new(scope),
        checks: Vec::new(),
        obstacle: None,
    };
    let ran = probe.run().await;
    // Also after an error of our own: what was made is deleted.
    let left_behind = probe.clean_up().await?;
    ran?;
    let is_otherwise = |check: &Check| check.result != CheckResult::Works;
    let (verdict, summary) = match probe.obstacle {
        Some(obstacle) => (ProbeVerdict::Unusable, obstacle),
        None if probe.checks.iter().any(is_otherwise) => {
            let names: Vec<&str> = probe
                .checks
                .iter()
                .filter(|check| is_otherwise(check))
                .map(|check| check.name.as_str())
                .collect();
            let summary = format!(
                "builds work; otherwise than the protocol says: {}",
                names.join(", ")
            );
            (ProbeVerdict::Differs, summary)
        }
        None => (
            ProbeVerdict::Works,
            "everything works as the protocol says".to_owned(),
        ),
    };
    Ok(ProbeReport {
        provider_type: scope.provider_type.clone(),
        verdict,
        summary,
        started_at,
        duration_ms: millis(started),
        checks: probe.checks,
        left_behind,
    })
}

/// The report of a probe whose connection can't be opened.
pub(crate) fn unopened(job: &ProviderProbe, error: ConnectError) -> Result<ProbeReport, Halt> {
    if let ConnectError::Database(error) = error {
        return Err(error.into());
    }
    Ok(ProbeReport {
        provider_type: job.provider_type.clone(),
        verdict: ProbeVerdict::Unusable,
        summary: error.to_string(),
        started_at: Utc::now(),
        duration_ms: 0,
        checks: Vec::new(),
        left_behind: Vec::new(),
    })
}

impl Probe<'_> {
    /// Notes a check.
    fn note(&mut self, name: &str, result: CheckResult, detail: impl Into<String>, latency_ms: Option<u64>) {
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
    fn note_error(&mut self, name: &str, error: &ProviderError, latency_ms: u64, needed: bool) {
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
    fn note_call<T>(
        &mut self,
        name: &str,
        tried: Tried<T>,
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

    fn skip(&mut self, name: &str, why: &str) {
        self.note(name, CheckResult::Skipped, why, None);
    }

    /// Tells the builds to come.
    async fn learn(&self, ability: Ability, holds: bool, how: &str) -> Result<(), Halt> {
        let mut db = self.scope.context.pool.acquire().await?;
        Ok(self.learned.learn(&mut db, ability, holds, how).await?)
    }
}

/// What a first failure says to whoever connects a provider for the first time.
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

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
