//! `FileUpload`: one file's copy at one provider, without an index.

use std::convert::Infallible;
use std::time::Duration;

use apalis_core::task::data::Data;
use apalis_mariadb::{CancelReason, Claim, Outcome};
use rag_db::composition::Member;
use rag_db::{files, uploads};
use rag_domain::{DesiredFile, UploadStatus};
use rag_jobs::FileUpload;
use serde_json::json;
use tracing::Instrument as _;

use crate::context::Context;
use crate::halt::Halt;
use crate::pipeline::{Scope, Uploaded, ensure_upload};

const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Uploads the file, unless the provider has its present contents.
pub(crate) async fn handle(
    job: FileUpload,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("file_upload", file.id = %job.file_id, domain.id = %job.domain_id, provider = job.provider_type);
    let result = run(&job, &claim, &context).instrument(span).await;
    Ok(match result {
        Ok(()) => Outcome::done(),
        Err(Halt::Stopped) if claim.reason() == Some(CancelReason::Requested) => Outcome::Cancelled,
        Err(halt) => halt.into_outcome(),
    })
}

async fn run(job: &FileUpload, claim: &Claim, context: &Context) -> Result<(), Halt> {
    let mut db = context.pool.acquire().await?;
    let provider = context.connections.open(&mut db, &job.provider_type).await?;
    let file = files::find(&mut db, &job.domain_id, job.file_id).await?;
    let file = file.ok_or_else(gone)?;
    drop(db);
    let member = Member {
        desired: DesiredFile {
            file_id: file.id,
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
    };
    let scope = Scope::new(context, claim, provider, &job.provider_type, &job.domain_id);
    let uploaded = tokio::select! {
        uploaded = ensure_upload(&scope, &member) => uploaded?,
        // What is cut off is looked for by the next claim.
        () = claim.cancellation().cancelled() => return Err(Halt::Stopped),
    };
    match uploaded {
        Uploaded::Yes | Uploaded::Failed => finish(&scope, &member).await,
        Uploaded::Busy => Err(Halt::snooze(BUSY_PAUSE, "another job uploads this file")),
        Uploaded::Skipped => Err(gone()),
    }
}

fn gone() -> Halt {
    Halt::Fail {
        error: "the file no longer exists".to_owned(),
    }
}

/// The job ends as the copy's row says.
async fn finish(scope: &Scope<'_>, member: &Member) -> Result<(), Halt> {
    let mut tx = scope.write().await?;
    let row = uploads::find(&mut tx, &scope.provider_type, member.desired.file_id).await?;
    let row = row.ok_or_else(|| Halt::Fail {
        error: "the copy was deleted while it was made".to_owned(),
    })?;
    if row.status != UploadStatus::Uploaded {
        let error = row.last_error.unwrap_or_else(|| "the upload failed".to_owned());
        return Err(Halt::Fail { error });
    }
    let output = json!({
        "provider_type": row.provider_id,
        "external_file_id": row.external_file_id,
        "content_sha256": row.content_sha256,
    });
    scope.claim.complete(&mut tx, &output).await?;
    Ok(tx.commit().await?)
}
