//! Whether this process can read stored contents: the last failure that was no file's fault, until the same works again.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::FilesError;

const FAILURES: &str = "rag_file_read_failures_total";

/// The shortest and the longest pause before the next try of what could not be read.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What keeps this process from its files.
#[derive(Debug, Clone)]
pub struct StorageFailure {
    pub reason: String,
    pub since: Instant,
    /// What could not be read; `None`: the root itself.
    pub(crate) suspect: Option<(PathBuf, u64)>,
}

impl fmt::Display for StorageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.since.elapsed().as_secs();
        write!(
            f,
            "stored files cannot be read here, for {seconds} seconds: {}",
            self.reason
        )
    }
}

/// Clones share what they know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<Mutex<Option<StorageFailure>>>);

impl Health {
    pub(crate) fn failure(&self) -> Option<StorageFailure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long to leave what cannot be read here: the longer the failure lasts, the longer.
    pub(crate) fn pause(&self) -> Duration {
        let lasted = self.failure().map(|failure| failure.since.elapsed());
        (lasted.unwrap_or_default() / 2).clamp(PAUSE.0, PAUSE.1)
    }

    /// Notes a failure, if it is this machine's.
    pub(crate) fn note(&self, error: &FilesError, suspect: Option<(PathBuf, u64)>) {
        if !error.is_storage_failure() {
            return;
        }
        metrics::counter!(FAILURES, "cause" => error.cause()).increment(1);
        let reason = match error {
            FilesError::Io { source, .. } => format!("{error}: {source}"),
            other => other.to_string(),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.as_ref().map_or_else(
            || {
                tracing::error!(reason, "stored files cannot be read here");
                Instant::now()
            },
            |failure| failure.since,
        );
        *known = Some(StorageFailure {
            reason,
            since,
            suspect,
        });
    }

    /// As [`note`](Self::note), of a read in the midst of contents.
    pub(crate) fn note_read(&self, error: &io::Error, suspect: (PathBuf, u64)) {
        // The error itself goes on to the reader.
        let copy = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        let error = FilesError::Io {
            action: "read the file contents",
            source: copy,
        };
        self.note(&error, Some(suspect));
    }

    /// What failed works again.
    pub(crate) fn clear(&self) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(failure) = before {
            let seconds = failure.since.elapsed().as_secs();
            tracing::info!(seconds, "stored files can be read here again");
        }
    }
}
