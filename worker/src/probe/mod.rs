//! A probe tries at a provider what builds, syncs and deletions rely on, with one small store and three small files of its
//! own, and says for each operation whether it works, differs or is missing (`checks`). What it sees of the attach methods is learned
//! for the builds to come.
//!
//! Reads and writes nothing of any index. Safe to repeat because everything it makes is in the ownership ledger and marked for
//! deletion as soon as its id is known (`resources`): what a killed probe leaves, any worker deletes a quarter of an hour
//! later.

mod checks;
mod report;
mod resources;
mod timed_call;

use std::time::Instant;

use chrono::Utc;
use rag_connections::{ConnectError, Learned};
use rag_jobs::{Check, CheckResult, ProbeReport, ProbeVerdict, ProviderProbe};

use crate::lease::Scope;
use crate::step_error::StepError;
use report::Probe;
use resources::Resources;
use timed_call::millis;

/// Carries a probe out. What the provider does wrong is in the report; an error is our own.
pub(crate) async fn probe(scope: &Scope<'_>, learned: &Learned) -> Result<ProbeReport, StepError> {
    let (started_at, started) = (Utc::now(), Instant::now());
    let mut probe = Probe {
        scope,
        learned,
        resources: Resources::new(scope),
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
pub(crate) fn unopened(job: &ProviderProbe, error: ConnectError) -> Result<ProbeReport, StepError> {
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
