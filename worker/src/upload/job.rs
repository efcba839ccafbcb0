//! The upload of one file without an index. However its job ends, the copy's row ends with it.
//!
//! Reads the file, the copy and the job. Writes the copy and `rag_upload_jobs`. Calls what an upload calls.

use std::time::Duration;

use apalis_mariadb::{CancelReason, Claim, Job, JobId, Outcome, State};
use rag_db::composition::Member;
use rag_db::upload_jobs::{self, UploadJob};
use rag_db::{files, uploads};
use rag_domain::{DesiredFile, FileId, UploadStatus};
use rag_jobs::FileUpload;
use serde_json::json;
use sqlx::MySqlConnection;

use super::copy::ensure;
use super::outcome::Uploaded;
use crate::context::Context;
use crate::lease::{Scope, wait_if_exhausted};
use crate::step_error::StepError;

const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Younger ones are most likely under way.
const STALE_SECONDS: u32 = 3;
const ROWS: u32 = 200;
const CANCELLED: &str = "the upload was cancelled";
const SILENT: &str = "the job ended without ending its upload";

/// What the queue is told; where no try follows, the copy's row is told before.
pub(crate) async fn ended(job: &FileUpload, claim: &Claim, context: &Context, error: StepError) -> Outcome {
    let (error, outcome) = match error {
        StepError::Fail { error } => (error.clone(), Outcome::Fail { error }),
        StepError::Retry { error, .. } if claim.is_last_attempt() => (error.clone(), Outcome::Fail { error }),
        StepError::Stopped if claim.reason() == Some(CancelReason::Requested) => {
            (CANCELLED.to_owned(), Outcome::Cancelled)
        }
        error => return error.into_outcome(),
    };
    let told = async {
        let mut tx = context.pool.begin().await?;
        claim.fence(&mut tx).await?;
        give_up(
            &mut tx,
            &claim.job_id().to_string(),
            &job.provider_type,
            job.file_id,
            &error,
        )
        .await?;
        Ok::<(), StepError>(tx.commit().await?)
    };
    match told.await {
        Ok(()) => outcome,
        Err(error) => error.into_outcome(),
    }
}

async fn give_up(
    tx: &mut MySqlConnection,
    job_id: &str,
    provider_type: &str,
    file_id: FileId,
    error: &str,
) -> Result<(), StepError> {
    if upload_jobs::end(tx, job_id).await? && uploads::give_up(tx, provider_type, file_id, error).await? {
        tracing::warn!(job.id = job_id, file.id = %file_id, provider = provider_type, error, "the upload is given up");
    }
    Ok(())
}

/// Ends the copies of jobs that ended without their handler: cancelled while they waited, out of attempts by time-outs or
/// panics, given up after too many lost workers. Safe to do from several workers at once: whoever takes the job's row away
/// has ended its copy in the same transaction.
pub(crate) async fn repair(context: &Context) -> Result<(), StepError> {
    let mut after = String::new();
    loop {
        let mut db = context.pool.acquire().await?;
        let stale = upload_jobs::list_stale(&mut db, &after, STALE_SECONDS, ROWS).await?;
        drop(db);
        for upload in &stale {
            // One that can't be ended now is no reason to leave the others.
            if let Err(error) = repair_one(context, upload).await {
                tracing::warn!(job.id = upload.job_id, %error, "an upload could not be ended, it will be tried again");
            }
        }
        match stale.into_iter().next_back() {
            Some(last) => after = last.job_id,
            None => return Ok(()),
        }
    }
}

async fn repair_one(context: &Context, upload: &UploadJob) -> Result<(), StepError> {
    let Ok(id) = upload.job_id.parse::<JobId>() else {
        return Ok(());
    };
    if is_active(context.queue.find_job(id).await?.as_ref()) {
        return Ok(());
    }
    let mut tx = context.pool.begin().await?;
    // A claim of a job that is run once more waits for this row, and begins after us; or it has begun, and is seen now.
    upload_jobs::lock(&mut tx, &upload.job_id).await?;
    let job = context.queue.find_job(id).await?;
    if is_active(job.as_ref()) {
        return Ok(());
    }
    let error = match &job {
        Some(job) if job.state == State::Cancelled => CANCELLED,
        Some(job) => job.last_error.as_deref().unwrap_or(SILENT),
        None => SILENT,
    };
    let (provider, file) = (&upload.provider_id, upload.local_file_id);
    give_up(&mut tx, &upload.job_id, provider, file, error).await?;
    Ok(tx.commit().await?)
}

fn is_active(job: Option<&Job>) -> bool {
    job.is_some_and(|job| !job.state.is_finished())
}

/// Uploads the file, unless the provider has its present contents.
pub(crate) async fn run(job: &FileUpload, claim: &Claim, context: &Context) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    let provider = context.connections.open(&mut db, &job.provider_type).await?;
    wait_if_exhausted(&mut db, &job.provider_type).await?;
    let file = files::find(&mut db, &job.domain_id, job.file_id).await?;
    let file = file.ok_or_else(gone)?;
    drop(db);
    let member = Member {
        desired: DesiredFile {
            file_id: file.id,
            file_name: file.file_name.clone(),
            content_sha256: file.sha256,
            size_bytes: file.size_bytes,
            strategy: None,
            upload: None,
        },
        file_name: file.file_name,
        file_type: file.file_type,
        local_path: file.local_path,
        external_file_id: None,
        upload_error: None,
        upload_error_code: None,
    };
    let scope = Scope::new(context, claim, provider, &job.provider_type, &job.domain_id);
    let mut tx = scope.write().await?;
    upload_jobs::begin(
        &mut tx,
        &claim.job_id().to_string(),
        &job.provider_type,
        job.file_id,
    )
    .await?;
    tx.commit().await?;
    let uploaded = tokio::select! {
        uploaded = ensure(&scope, &member) => uploaded?,
        // The next claim searches for what was cut off.
        () = claim.cancellation().cancelled() => return Err(StepError::Stopped),
    };
    match uploaded {
        Uploaded::Yes | Uploaded::Failed => finish(&scope, &member).await,
        Uploaded::Busy => Err(StepError::snooze(BUSY_PAUSE, "another job uploads this file")),
        Uploaded::Skipped => Err(gone()),
    }
}

fn gone() -> StepError {
    StepError::Fail {
        error: "the file no longer exists".to_owned(),
    }
}

/// The job ends as the copy's row says.
async fn finish(scope: &Scope<'_>, member: &Member) -> Result<(), StepError> {
    let mut tx = scope.write().await?;
    let row = uploads::find(&mut tx, &scope.provider_type, member.desired.file_id).await?;
    let row = row.ok_or_else(|| StepError::Fail {
        error: "the copy was deleted while it was made".to_owned(),
    })?;
    if row.status != UploadStatus::Uploaded {
        let error = row.last_error.unwrap_or_else(|| "the upload failed".to_owned());
        return Err(StepError::Fail { error });
    }
    let output = json!({
        "provider_type": row.provider_id,
        "external_file_id": row.external_file_id,
        "content_sha256": row.content_sha256,
    });
    upload_jobs::end(&mut tx, &scope.claim.job_id().to_string()).await?;
    scope.claim.complete(&mut tx, &output).await?;
    Ok(tx.commit().await?)
}
