//! Step 7: nothing is left to do, and index, build and job say so in one transaction.
//!
//! Reads composition and attachments under the index's lock. Writes the index's status, the build and the job's end. Calls
//! nothing. Safe to repeat because it is one transaction. Whoever changes the composition holds the same lock: the change
//! is either seen here, and the build goes round once more, or it finds the job ended and enqueues a new one.

use apalis_mariadb::Claim;
use rag_db::builds::{self, Progress};
use rag_db::indexes;
use rag_domain::{AttachmentState, ChunkingProof, FileCounts, IndexingStatus};
use serde_json::json;

use super::snapshot::{BuildSnapshot, Pages};
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
    let mut pages = Pages::new(&build.job.domain_id, build.index.id);
    let mut end = End::default();
    while let Some(page) = pages.next(&mut tx).await? {
        if !is_complete(&page) {
            tracing::info!("the composition changed meanwhile: another round");
            return Ok(Some(Step::UploadFiles));
        }
        end.add(&page);
    }
    // An index without files is built when it has its store.
    let status = end.counts.aggregate().unwrap_or(IndexingStatus::Done);
    let error = (status == IndexingStatus::Failed).then(|| end.failures.text(end.progress.files_total));
    indexes::mark_built(&mut tx, index.id, status, error.as_deref()).await?;
    builds::set_progress(&mut tx, &build.job_id, &end.progress).await?;
    builds::finish(&mut tx, &build.job_id).await?;
    let output = json!({
        "indexing_status": status,
        "external_id": index.external_id,
        "file_counts": end.counts,
        "last_error": error,
        "chunking": end.chunking.to_json(),
        "unverified": build.unverified,
    });
    complete(build.claim, &mut tx, &output).await?;
    tx.commit().await?;
    tracing::info!(%status, files = end.progress.files_total, "the build ends");
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

/// What all pages come to.
#[derive(Default)]
struct End {
    counts: FileCounts,
    progress: Progress,
    chunking: Chunking,
    failures: Failures,
}

impl End {
    fn add(&mut self, page: &BuildSnapshot) {
        let counts = &page.plan.counts;
        self.counts.in_progress += counts.in_progress;
        self.counts.completed += counts.completed;
        self.counts.failed += counts.failed;
        self.counts.cancelled += counts.cancelled;
        page.add_to(&mut self.progress);
        self.chunking.add(page);
        self.failures.add(page);
    }
}

/// What became of the strategies that were asked for (R-C5), as far as the provider tells; the differences by name.
#[derive(Default)]
struct Chunking {
    matches: usize,
    unknown: usize,
    differs: usize,
    named: Vec<serde_json::Value>,
}

impl Chunking {
    fn add(&mut self, page: &BuildSnapshot) {
        for row in page.attachments.iter().filter(|row| page.is_kept(row)) {
            match row.chunking_proof() {
                ChunkingProof::Matches => self.matches += 1,
                ChunkingProof::Unknown => self.unknown += 1,
                ChunkingProof::Differs => {
                    self.differs += 1;
                    if self.named.len() < NAMED_DIFFERENCES {
                        self.named.push(json!({
                            "file_id": row.local_file_id,
                            "file_name": page.member(row.local_file_id).map(|member| &member.file_name),
                            "asked": row.chunking_strategy,
                            "reported": row.reported_strategy,
                        }));
                    }
                }
            }
        }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "matches": self.matches,
            "differs": self.differs,
            "unknown": self.unknown,
            "differences": self.named,
        })
    }
}

/// Files that failed, some of them by name.
#[derive(Default)]
struct Failures {
    count: usize,
    named: Vec<String>,
}

impl Failures {
    fn add(&mut self, page: &BuildSnapshot) {
        for id in &page.plan.upload_failed {
            if let Some(member) = page.member(*id) {
                let error = member.upload_error.as_deref().unwrap_or("the upload failed");
                self.name(|| format!("{}: {error}", member.file_name));
            }
        }
        for row in page.attachments.iter().filter(|row| page.is_kept(row)) {
            let reason = match row.state {
                AttachmentState::Failed => row.last_error.as_deref().unwrap_or("indexing failed"),
                AttachmentState::Cancelled => "indexing was cancelled",
                _ => continue,
            };
            self.name(|| {
                let name = page
                    .member(row.local_file_id)
                    .map_or("a file", |member| member.file_name.as_str());
                let code = row
                    .error_code
                    .as_deref()
                    .map(|code| format!(" ({code})"))
                    .unwrap_or_default();
                format!("{name}: {reason}{code}")
            });
        }
    }

    fn name(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED_FAILURES {
            self.named.push(text());
        }
    }

    fn text(&self, total: u32) -> String {
        let more = match self.count - self.named.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        format!(
            "{} of {total} files failed: {}{more}",
            self.count,
            self.named.join("; ")
        )
    }
}
