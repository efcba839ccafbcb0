//! What can go wrong with file contents.

use std::io;

use thiserror::Error;

/// Reading or removing stored contents failed.
#[derive(Debug, Error)]
pub enum FilesError {
    /// No such contents, though the path is well formed and the root is the installation's own: a row without its file.
    #[error("there are no stored contents at `{0}`")]
    NotFound(String),
    /// The path does not have the shape that this store gives out; nothing was opened.
    #[error("`{0}` is not a path of stored contents")]
    InvalidPath(String),
    /// FILES_ROOT is not what this installation stores its files in, so nothing can be said of any of them.
    #[error("FILES_ROOT is not the folder of this installation's files: {0}")]
    NotMounted(String),
    #[error("could not {action}")]
    Io { action: &'static str, source: io::Error },
}

impl FilesError {
    /// The file system, or what this account may have of it, has no room for the contents.
    pub fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(
            self,
            Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
        )
    }

    /// Whether this machine fails and not the file: another one may read it, and so may this one later.
    pub fn is_storage_failure(&self) -> bool {
        matches!(self, Self::NotMounted(_) | Self::Io { .. })
    }

    /// As [`is_storage_failure`](Self::is_storage_failure), and no other file is likely to fare better.
    pub fn is_about_all_files(&self) -> bool {
        match self {
            Self::NotMounted(_) => true,
            // Out of descriptors (EMFILE, ENFILE): no kind of `std` stands for that.
            Self::Io { source, .. } => matches!(source.raw_os_error(), Some(23 | 24)),
            Self::NotFound(_) | Self::InvalidPath(_) => false,
        }
    }

    /// A word for metrics.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::InvalidPath(_) => "invalid_path",
            Self::NotMounted(_) => "not_mounted",
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "permission_denied",
                io::ErrorKind::StaleNetworkFileHandle => "stale_handle",
                io::ErrorKind::TimedOut => "timed_out",
                _ if self.is_about_all_files() => "too_many_open_files",
                _ => "io",
            },
        }
    }
}

/// Stored contents are not the bytes that their row records.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the stored contents have SHA-256 {found} instead of {recorded}")]
pub struct Corrupted {
    pub found: String,
    pub recorded: String,
}

/// Saving contents failed. Nothing of them is left behind.
///
/// `E` is the error of the source that the contents came from.
#[derive(Debug, Error)]
pub enum SaveError<E> {
    #[error("the contents are larger than {limit} bytes")]
    TooLarge { limit: u64 },
    /// The source ended in an error, for instance because the client went away.
    #[error("the contents did not arrive completely")]
    Source(E),
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Names the action that failed, for `map_err`.
pub(crate) fn failed(action: &'static str) -> impl FnOnce(io::Error) -> FilesError {
    move |source| FilesError::Io { action, source }
}
