//! `ProviderProbe`: tries at a provider what this service relies on.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_db::connections;
use rag_jobs::{ProbeReport, ProbeVerdict, ProviderProbe};
use tracing::Instrument as _;

use crate::context::Context;
use crate::lease::Scope;
use crate::probe;
use crate::step_error::StepError;

/// Probes; the report is the job's output, whatever it says.
pub(crate) async fn handle(
    job: ProviderProbe,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("provider_probe", provider = job.provider_type);
    let result = run(&job, &claim, &context).instrument(span).await;
    let output = result.and_then(|report| {
        tracing::info!(summary = report.summary, "probed");
        Ok(serde_json::to_value(report)?)
    });
    Ok(output.map_or_else(StepError::into_outcome, Outcome::Done))
}

async fn run(job: &ProviderProbe, claim: &Claim, context: &Context) -> Result<ProbeReport, StepError> {
    let mut db = context.pool.acquire().await?;
    let opened = context
        .connections
        .open_learned(&mut db, &job.provider_type)
        .await;
    drop(db);
    let (provider, learned) = match opened {
        Ok(opened) => opened,
        Err(error) => return probe::unopened(job, error),
    };
    let scope = Scope::without_domain(context, claim, provider, &job.provider_type)?;
    let report = probe::probe(&scope, &learned).await?;
    if report.verdict == ProbeVerdict::Unusable {
        // Until a call succeeds.
        let mut db = context.pool.acquire().await?;
        connections::record_error(&mut db, &job.provider_type, &report.summary).await?;
    }
    Ok(report)
}
