//! What can go wrong with file contents.

use std::io;

use thiserror::Error;

/// Reading or removing stored contents failed.
#[derive(Debug, Error)]
pub enum FilesError {
    /// No such contents, though the path is well formed: a row without its file.
    #[error("there are no stored contents at `{0}`")]
    NotFound(String),
    /// The path does not have the shape that this store gives out; nothing was opened.
    #[error("`{0}` is not a path of stored contents")]
    InvalidPath(String),
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
