//! A build as a persisted state machine: one file per step.
//!
//! Each step reads rows, calls the provider with no transaction open, and writes what came of it in one transaction that
//! is fenced by the claim. What is left to do is computed from rows each time ([`rag_domain::BuildPlan`]), so a step that ran
//! half, or twice, or under a composition that has changed since, needs no special case.
//!
//! | module | what |
//! |---|---|
//! | `state`, `step`, `snapshot` | the build that a claim works on, where it stands, and what rows say of it, page by page |
//! | `ensure_vector_store` | step 1, with `adopt_store`, `store_check` and `store_settings` |
//! | `upload_files` | step 2, with `uploads` and `upload_writes` (one file's upload is in `crate::upload`); step 3 runs beside it |
//! | `attach_files` | step 3, with `attach_batch`, `attach_single` and `attach_permit` |
//! | `await_indexing` | step 4, with `poll`, `absent_files` and `server_errors` |
//! | `detach_files`, `verify`, `finish` | steps 5 to 7 |
//! | `failure`, `failed_files` | how a build, or a file in it, is given up |
//! | `cancel` | what a cancelled build has handed to the provider |

mod absent_files;
mod adopt_store;
mod attach_batch;
mod attach_files;
mod attach_permit;
mod attach_single;
mod await_indexing;
mod cancel;
mod detach_files;
mod ensure_vector_store;
mod failed_files;
pub(crate) mod failure;
mod finish;
mod observed_files;
mod poll;
mod server_errors;
mod snapshot;
mod state;
mod step;
mod store_check;
mod store_settings;
mod upload_files;
mod upload_writes;
mod uploads;
mod verify;

use std::time::Duration;

use rag_db::builds;

use crate::step_error::StepError;
use step::Step;

pub(crate) use cancel::{stop_build_indexing, stop_indexing};
pub(crate) use state::Build;

/// How long a call may go on when its build is to stop.
const LAST_CALL: Duration = Duration::from_secs(2);

/// Goes on until the build has ended, or has to pause.
pub(crate) async fn run(build: &mut Build<'_>) -> Result<(), StepError> {
    loop {
        build.check_running()?;
        tracing::debug!(step = build.step.as_str(), "step begins");
        let cancellation = build.claim.cancellation().clone();
        let next = tokio::select! {
            biased;
            next = run_step(build) => next?,
            // A step stops by itself between two calls. A call that does not return is cut off: whatever it did is found later.
            () = async { cancellation.cancelled().await; tokio::time::sleep(LAST_CALL).await } => {
                return Err(StepError::Stopped);
            }
        };
        let Some(next) = next else { return Ok(()) };
        let mut tx = build.write().await?;
        builds::set_step(&mut tx, &build.job_id, next.as_str()).await?;
        tx.commit().await?;
        build.step = next;
    }
}

/// `None`: the build has ended.
async fn run_step(build: &mut Build<'_>) -> Result<Option<Step>, StepError> {
    Ok(Some(match build.step {
        Step::EnsureVectorStore => ensure_vector_store::run(build).await?,
        Step::UploadFiles => upload_files::run(build).await?,
        Step::AttachFiles => attach_files::run(build).await?,
        Step::AwaitIndexing => await_indexing::run(build).await?,
        Step::DetachFiles => detach_files::run(build).await?,
        Step::Verify => verify::run(build).await?,
        Step::Finish => return finish::run(build).await,
    }))
}
