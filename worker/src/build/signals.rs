//! What the uploads and the attaches of a build tell each other while they run side by side. What is to be attached is in rows; here is
//! only that there is something.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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

    pub(super) fn end_uploads(&self) {
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
