//! Step 2: every file of the composition has a current copy at the provider.
//!
//! Reads composition, copies and attachments. Writes copies and upload intents, one file at a time (`upload`). Calls
//! list and create of files. Safe to repeat because each file is a step of its own with an intent of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use rag_db::composition::Member;

use super::upload::{self, Uploaded};
use super::{Build, Step};
use crate::halt::Halt;

const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// What is on the wire when the worker is told to stop gets this long to come to its end; an upload that is cut off has
/// to be looked for by the next claim.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Progress is computed from all rows of the index, so not after each of ten thousand files.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let picture = build.picture().await?;
    build.report(&picture).await?;
    let this = &*build;
    let stopping = AtomicBool::new(false);
    let uploads: Vec<_> = picture
        .plan
        .upload
        .iter()
        .filter_map(|id| picture.member(*id))
        .map(|member| upload_unless(&stopping, this, member).boxed())
        .collect();
    let uploads =
        futures::stream::iter(uploads).buffer_unordered(this.context.settings.build_upload_concurrency);
    let busy = drain(this, uploads.boxed(), &stopping).await?;
    build.report(&build.picture().await?).await?;
    if busy {
        return Err(Halt::snooze(BUSY_PAUSE, "another job uploads some of the files"));
    }
    Ok(Step::AttachFiles)
}

async fn upload_unless(stopping: &AtomicBool, build: &Build<'_>, member: &Member) -> Result<Uploaded, Halt> {
    if stopping.load(Ordering::Relaxed) {
        Ok(Uploaded::Skipped)
    } else {
        upload::ensure(build, member).await
    }
}

/// Runs the uploads to their end. After the first reason to stop nothing new begins, but what has begun is waited for.
/// The answer tells whether some files are in another job's hands.
async fn drain(
    build: &Build<'_>,
    mut uploads: BoxStream<'_, Result<Uploaded, Halt>>,
    stopping: &AtomicBool,
) -> Result<bool, Halt> {
    let (mut busy, mut halted, mut reported) = (false, None, Instant::now());
    loop {
        let next = tokio::select! {
            biased;
            () = build.claim.cancellation().cancelled() => {
                stopping.store(true, Ordering::Relaxed);
                let _cut_off = tokio::time::timeout(LAST_WORDS, uploads.by_ref().for_each(|_| async {})).await;
                return Err(Halt::Stopped);
            }
            next = uploads.next() => next,
        };
        match next {
            None => break,
            Some(Ok(Uploaded::Busy)) => busy = true,
            Some(Ok(Uploaded::Yes | Uploaded::Failed)) if reported.elapsed() >= REPORT_INTERVAL => {
                build.report(&build.picture().await?).await?;
                reported = Instant::now();
            }
            Some(Ok(Uploaded::Yes | Uploaded::Failed | Uploaded::Skipped)) => {}
            Some(Err(halt)) => {
                stopping.store(true, Ordering::Relaxed);
                halted.get_or_insert(halt);
            }
        }
    }
    halted.map_or(Ok(busy), Err)
}
