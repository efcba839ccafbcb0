//! Step 7: nothing is left to do, and index, build and job say so in one transaction.
//!
//! Reads composition and attachments under the index's lock. Writes the index's status, the build and the job's end. Calls
//! nothing. Safe to repeat because it is one transaction. Whoever changes the composition holds the same lock: the change
//! is either seen here, and the build goes round once more, or it finds the job ended and enqueues a new one.

use apalis_mariadb::Claim;
use rag_db::{builds, indexes};
use rag_domain::{AttachmentState, ChunkingProof, IndexingStatus};
use serde_json::json;

use super::snapshot::BuildSnapshot;
use super::state::Build;
use super::step::Step;
use crate::step_error::StepError;

/// Names of failed files in `last_error`; the rest is in the per-file view.
const NAMED_FAILURES: usize = 5;
/// Differences in the job's output; the rest is in the per-file view.
const NAMED_DIFFERENCES: usize = 50;

/// `None`: the build has ended.
pub(crate) async fn run(build: &mut Build<'_>) -> Result<Option<Step>, StepError> {
    let (mut tx, index) = build.write_index().await?;
    let snapshot = build.snapshot_in(&mut tx).await?;
    if !is_complete(&snapshot) {
        tracing::info!("the composition changed meanwhile: another round");
        return Ok(Some(Step::UploadFiles));
    }
    // An index without files is built when it has its store.
    let status = snapshot.plan.counts.aggregate().unwrap_or(IndexingStatus::Done);
    let error = (status == IndexingStatus::Failed).then(|| failures(&snapshot));
    indexes::mark_built(&mut tx, index.id, status, error.as_deref()).await?;
    builds::set_progress(&mut tx, &build.job_id, &snapshot.progress()).await?;
    builds::finish(&mut tx, &build.job_id).await?;
    let output = json!({
        "indexing_status": status,
        "external_id": index.external_id,
        "file_counts": snapshot.plan.counts,
        "last_error": error,
        "chunking": chunking(&snapshot),
        "unverified": build.unverified,
    });
    complete(build.claim, &mut tx, &output).await?;
    tx.commit().await?;
    tracing::info!(%status, files = snapshot.members.len(), "the build ends");
    metrics::counter!("rag_builds_finished_total", "status" => status.as_str()).increment(1);
    Ok(None)
}

async fn complete(
    claim: &Claim,
    db: &mut sqlx::MySqlConnection,
    output: &serde_json::Value,
) -> Result<(), StepError> {
    Ok(claim.complete(db, output).await?)
}

fn is_complete(snapshot: &BuildSnapshot) -> bool {
    snapshot.plan.is_complete() && snapshot.attachments.iter().all(|row| row.state.is_settled())
}

/// What became of the strategies that were asked for (R-C5), as far as the provider tells; the differences by name.
fn chunking(snapshot: &BuildSnapshot) -> serde_json::Value {
    let (mut matches, mut unknown, mut differences) = (0_usize, 0_usize, Vec::new());
    for row in snapshot.attachments.iter().filter(|row| snapshot.is_kept(row)) {
        match row.chunking_proof() {
            ChunkingProof::Matches => matches += 1,
            ChunkingProof::Unknown => unknown += 1,
            ChunkingProof::Differs => differences.push(row),
        }
    }
    let named: Vec<_> = differences
        .iter()
        .take(NAMED_DIFFERENCES)
        .map(|row| {
            json!({
                "file_id": row.local_file_id,
                "file_name": snapshot.member(row.local_file_id).map(|member| &member.file_name),
                "asked": row.chunking_strategy,
                "reported": row.reported_strategy,
            })
        })
        .collect();
    json!({
        "matches": matches,
        "differs": differences.len(),
        "unknown": unknown,
        "differences": named,
    })
}

fn failures(snapshot: &BuildSnapshot) -> String {
    let mut texts = Vec::new();
    for id in &snapshot.plan.upload_failed {
        if let Some(member) = snapshot.member(*id) {
            let error = member.upload_error.as_deref().unwrap_or("the upload failed");
            texts.push(format!("{}: {error}", member.file_name));
        }
    }
    for row in snapshot.attachments.iter().filter(|row| snapshot.is_kept(row)) {
        let reason = match row.state {
            AttachmentState::Failed => row.last_error.as_deref().unwrap_or("indexing failed"),
            AttachmentState::Cancelled => "indexing was cancelled",
            _ => continue,
        };
        let name = snapshot
            .member(row.local_file_id)
            .map_or("a file", |member| member.file_name.as_str());
        let code = row
            .error_code
            .as_deref()
            .map(|code| format!(" ({code})"))
            .unwrap_or_default();
        texts.push(format!("{name}: {reason}{code}"));
    }
    let total = snapshot.members.len();
    let (failed, more) = (texts.len(), texts.len().saturating_sub(NAMED_FAILURES));
    texts.truncate(NAMED_FAILURES);
    let more = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    format!("{failed} of {total} files failed: {}{more}", texts.join("; "))
}
