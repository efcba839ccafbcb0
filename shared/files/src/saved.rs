//! Contents that were saved but that no row names yet.

use std::path::PathBuf;

use bytes::Bytes;

/// The result of a save. Until [`keep`](Self::keep) is called it removes the contents when dropped, so a request that
/// fails or is cancelled between the save and its database commit leaves nothing behind.
#[derive(Debug)]
#[must_use = "dropping this removes the saved contents"]
pub struct Saved {
    /// Where the contents are, relative to FILES_ROOT.
    pub relative_path: String,
    pub size_bytes: u64,
    /// 64 lower-case hex digits.
    pub sha256: String,
    /// The first bytes (at most [`HEAD_BYTES`](crate::HEAD_BYTES)), for recognizing the type.
    pub head: Bytes,
    pub(crate) remove_on_drop: Option<PathBuf>,
}

impl Saved {
    /// The row that names the contents is committed: they stay.
    pub fn keep(&mut self) {
        self.remove_on_drop = None;
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        if let Some(path) = self.remove_on_drop.take() {
            remove_now(&path);
            if let Some(folder) = path.parent() {
                // Fails, as it should, while the folder holds another version.
                let _not_empty = std::fs::remove_dir(folder);
            }
        }
    }
}

/// Unlinks without waiting for the runtime: one system call, and `Drop` cannot wait.
pub(crate) fn remove_now(path: &std::path::Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "could not remove unwanted file contents");
    }
}
