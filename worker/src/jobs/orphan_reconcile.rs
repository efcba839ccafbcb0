//! `OrphanReconcile`: searches a provider for what we made there and no row speaks of.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_domain::DomainId;
use rag_jobs::OrphanReconcile;
use tracing::Instrument as _;

use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::{Scope, reconcile};

/// Searches; the report is the job's output.
pub(crate) async fn handle(
    job: OrphanReconcile,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("orphan_reconcile", provider = job.provider_type);
    let result = run(&job, &claim, &context).instrument(span).await;
    Ok(result.map_or_else(Halt::into_outcome, Outcome::Done))
}

async fn run(job: &OrphanReconcile, claim: &Claim, context: &Context) -> Result<serde_json::Value, Halt> {
    let mut db = context.pool.acquire().await?;
    let provider = context.connections.open(&mut db, &job.provider_type).await?;
    drop(db);
    // It touches no domain's files: nothing here reads them.
    let nobody = DomainId::try_from("-".to_owned()).map_err(|error| Halt::Fail {
        error: error.to_string(),
    })?;
    let scope = Scope::new(context, claim, provider, &job.provider_type, &nobody);
    let confirmed = job.confirmed_files.iter().cloned().collect();
    let report = tokio::select! {
        report = reconcile(&scope, job.mode, &confirmed) => report?,
        () = claim.cancellation().cancelled() => return Err(Halt::Stopped),
    };
    serde_json::to_value(report).map_err(|error| Halt::Fail {
        error: error.to_string(),
    })
}
