//! Step 2: every file of the composition has a current copy at the provider.
//!
//! Reads composition, copies and attachments. Writes copies and upload intents, one file at a time (`upload`). Calls
//! list and create of files. Safe to repeat because each file is a step of its own with an intent of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use rag_db::composition::Member;

use super::state::Build;
use super::step::Step;
use crate::step_error::StepError;
use crate::upload::{self, Uploaded};

const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Requests wait so long for the end of a pause themselves; only a longer one ends the round of uploads.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// What is on the wire when the worker is told to stop gets this long to come to its end; an upload that is cut off has
/// to be searched for by the next claim.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Progress is computed from all rows of the index, so not after each of ten thousand files, and the seldomer the longer it
/// takes: a twentieth of the time goes into it at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_SHARE: u32 = 20;

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    let snapshot = build.snapshot().await?;
    build.report(&snapshot).await?;
    let pace = Pace {
        stopping: AtomicBool::new(false),
        next_report: Mutex::new(Instant::now() + REPORT_INTERVAL),
    };
    let this = &*build;
    let uploads: Vec<_> = snapshot
        .plan
        .upload
        .iter()
        .filter_map(|id| snapshot.member(*id))
        .map(|member| upload_one(this, member, &pace).boxed())
        .collect();
    let uploads =
        futures::stream::iter(uploads).buffer_unordered(this.context.settings.build_upload_concurrency);
    let busy = drain(this, uploads.boxed(), &pace).await?;
    build.report(&build.snapshot().await?).await?;
    if busy {
        return Err(StepError::snooze(
            BUSY_PAUSE,
            "another job uploads some of the files",
        ));
    }
    Ok(Step::AttachFiles)
}

/// What the uploads of one build share.
struct Pace {
    /// Nothing new begins.
    stopping: AtomicBool,
    next_report: Mutex<Instant>,
}

impl Pace {
    /// Answers `true` to one of many askers an interval.
    fn is_report_due(&self) -> bool {
        let mut next = self.next_report.lock().unwrap_or_else(PoisonError::into_inner);
        let due = Instant::now() >= *next;
        if due {
            *next = Instant::now() + REPORT_INTERVAL;
        }
        due
    }

    /// A report has taken so long.
    fn reported(&self, took: Duration) {
        let mut next = self.next_report.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Instant::now() + REPORT_INTERVAL.max(took * REPORT_SHARE);
    }
}

/// One upload, and the report that falls due with it.
///
/// The report must not be made by whoever drives the uploads: while it waits for the job's row, nobody would drive the
/// upload whose transaction holds that row.
async fn upload_one(build: &Build<'_>, member: &Member, pace: &Pace) -> Result<Uploaded, StepError> {
    if pace.stopping.load(Ordering::Relaxed) {
        return Ok(Uploaded::Skipped);
    }
    let uploaded = upload::ensure(build, member).await?;
    if pace.is_report_due() {
        let began = Instant::now();
        build.report(&build.snapshot().await?).await?;
        pace.reported(began.elapsed());
    }
    Ok(uploaded)
}

/// Drives the uploads to their end, and does nothing else meanwhile. After the first reason to stop nothing new begins,
/// but what has begun is waited for; a short pause of the provider's is no such reason. The answer tells whether some files are in another job's hands.
async fn drain(
    build: &Build<'_>,
    mut uploads: BoxStream<'_, Result<Uploaded, StepError>>,
    pace: &Pace,
) -> Result<bool, StepError> {
    let (mut busy, mut first_error) = (false, None);
    loop {
        let next = tokio::select! {
            biased;
            () = build.claim.cancellation().cancelled() => {
                pace.stopping.store(true, Ordering::Relaxed);
                let _cut_off = tokio::time::timeout(STOP_GRACE, uploads.by_ref().for_each(|_| async {})).await;
                return Err(StepError::Stopped);
            }
            next = uploads.next() => next,
        };
        match next {
            None => break,
            Some(Ok(Uploaded::Busy)) => busy = true,
            Some(Ok(Uploaded::Yes | Uploaded::Failed | Uploaded::Skipped)) => {}
            Some(Err(error)) => {
                // A short pause is waited for by whoever sends next; this one file comes round again with the next claim.
                // And what can't be read here is this one file.
                let others_go_on = match &error {
                    StepError::RateLimited { after, .. } => *after <= SHORT_PAUSE,
                    StepError::Storage { all_files, .. } => !all_files,
                    _ => false,
                };
                if !others_go_on {
                    pace.stopping.store(true, Ordering::Relaxed);
                }
                if first_error.as_ref().is_none_or(is_wait) {
                    first_error = Some(error);
                }
            }
        }
    }
    first_error.map_or(Ok(busy), Err)
}

fn is_wait(error: &StepError) -> bool {
    matches!(error, StepError::RateLimited { .. } | StepError::Storage { .. })
}
