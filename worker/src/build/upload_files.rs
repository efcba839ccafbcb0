//! Step 2: every file of the composition has a current copy at the provider, and what has arrived is attached meanwhile.
//!
//! Two stages run side by side. The uploads (`uploads`) walk the composition page by page, and write down in one transaction
//! what has arrived, that it is to be attached, and what goes up next. The attaches (`attach_files`) are fed by those rows: a
//! batch leaves when it is full, or half a second old. Between the stages there are rows and nothing else, so a crash loses
//! neither.
//!
//! Reads composition, copies and attachments. Writes copies, intents and attachments. Calls create of files, and what
//! `attach_files` calls. Safe to repeat because each file has an intent of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::state::Build;
use super::step::Step;
use super::{attach_files, uploads};
use crate::step_error::StepError;

const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// A batch that is not full leaves at this age.
const BATCH_AGE: Duration = Duration::from_millis(500);

/// What the two stages tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Files that wait to be attached, as far as is known.
    pending: AtomicUsize,
    uploads_ended: AtomicBool,
    changed: Notify,
    /// No further upload begins.
    pub(super) stop_uploads: CancellationToken,
}

impl Signals {
    /// So many more files wait to be attached.
    pub(super) fn add_pending(&self, files: usize) {
        self.pending.fetch_add(files, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn end_uploads(&self) {
        self.uploads_ended.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    pub(super) fn have_uploads_ended(&self) -> bool {
        self.uploads_ended.load(Ordering::Relaxed)
    }

    /// Waits until a batch is full or old enough, or no more files come.
    pub(super) async fn batch_is_due(&self, full: usize) {
        let mut leaves_at = None;
        loop {
            let pending = self.pending.load(Ordering::Relaxed);
            if self.have_uploads_ended() || pending >= full {
                break;
            }
            if pending > 0 {
                leaves_at = leaves_at.or_else(|| Some(Instant::now() + BATCH_AGE));
            }
            match leaves_at {
                None => self.changed.notified().await,
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if tokio::time::timeout(left, self.changed.notified()).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.pending.store(0, Ordering::Relaxed);
    }

    /// Waits, but not beyond the end of the uploads.
    pub(super) async fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.have_uploads_ended() {
            let left = until.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, self.changed.notified()).await.is_err() {
                break;
            }
        }
    }
}

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    build.report().await?;
    let this = &*build;
    let signals = Signals::default();
    let uploads = async {
        let result = uploads::run(this, &signals).await;
        signals.end_uploads();
        result
    };
    let (uploaded, attached) = tokio::join!(uploads, attach_files::alongside(this, &signals));
    if uploaded.is_err()
        && let Err(error @ (StepError::Stopped | StepError::Database { .. })) = attached
    {
        return Err(error);
    }
    // Uploads that have to wait are the reason that is told: why what has gone up could not be attached is the next claim's matter.
    let uploaded = uploaded?;
    attached?;
    build.report().await?;
    if uploaded.busy {
        return Err(StepError::snooze(
            BUSY_PAUSE,
            "another job uploads some of the files",
        ));
    }
    build.leaving = uploaded.leaving;
    Ok(if uploaded.come_again {
        Step::AttachFiles
    } else {
        Step::AwaitIndexing
    })
}
