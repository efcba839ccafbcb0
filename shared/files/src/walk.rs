//! Everything that lies under FILES_ROOT, in pages, for a comparison with rows; and the removal of what no row names.
//!
//! A walk reads folders as it goes, so its memory depends on a page and not on how much there is. It follows no symlinks.
//! What does not have the form of the layout is told, and never touched.

use std::fs::{DirEntry, Metadata, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::FileStore;
use crate::error::{FilesError, failed};
use crate::layout::{INCOMING, OWN_MARKERS, checked, file_of_folder, is_domain_folder, is_stored_name};

/// Something that lies under FILES_ROOT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub what: What,
    /// Relative to FILES_ROOT, with `/`.
    pub relative_path: String,
    /// Since it was written, moved or changed otherwise.
    pub age: Duration,
    pub size_bytes: u64,
}

/// What it is, by its level, its name and its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Contents of this file.
    Contents(Uuid),
    /// An upload that has not arrived completely.
    Upload,
    /// The folder of a file or a domain, without anything in it.
    EmptyFolder,
    /// Not made by this store.
    Strange,
}

/// Where a walk has got to.
#[derive(Debug)]
pub struct Walk {
    store: FileStore,
    now: SystemTime,
    has_begun: bool,
    /// The open folders, from the root down.
    open: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    /// Empty for the root.
    relative_path: String,
    level: Level,
    entries: ReadDir,
    is_empty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Incoming,
    Domain,
    File(Uuid),
}

impl FileStore {
    /// Begins a walk.
    pub fn walk(&self) -> Walk {
        Walk {
            store: self.clone(),
            now: SystemTime::now(),
            has_begun: false,
            open: Vec::new(),
        }
    }

    /// Removes what a walk has told, if it is still older than this; answers whether it did. What is strange stays.
    pub async fn remove_leftover(&self, entry: &Entry, older_than: Duration) -> Result<bool, FilesError> {
        let (store, entry) = (self.clone(), entry.clone());
        blocking("remove what no row names", move || {
            store.remove_now(&entry, older_than)
        })
        .await
    }

    fn remove_now(&self, entry: &Entry, older_than: Duration) -> io::Result<bool> {
        let path = self.root().join(&entry.relative_path);
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if age(&metadata, SystemTime::now()) < older_than {
            return Ok(false);
        }
        match entry.what {
            What::Contents(_) | What::Upload if metadata.is_file() => {
                let removed = if_there(std::fs::remove_file(&path))?;
                if let Some(folder) = path.parent().filter(|_| entry.what != What::Upload) {
                    // Fails, as it should, while the folder holds another version.
                    let _not_empty = std::fs::remove_dir(folder);
                }
                Ok(removed)
            }
            // Fails, as it should, if something has come into it.
            What::EmptyFolder if metadata.is_dir() => Ok(std::fs::remove_dir(&path).is_ok()),
            _ => Ok(false),
        }
    }

    /// Those of these paths, which rows name, where there are no contents; symlinks are followed, as by [`open`](Self::open).
    pub async fn without_contents(&self, relative_paths: Vec<String>) -> Result<Vec<String>, FilesError> {
        let store = self.clone();
        blocking("look for file contents", move || {
            let mut missing = Vec::new();
            for relative_path in relative_paths {
                if !store.has_contents(&relative_path)? {
                    missing.push(relative_path);
                }
            }
            Ok(missing)
        })
        .await
    }

    fn has_contents(&self, relative_path: &str) -> io::Result<bool> {
        let Ok(path) = checked(relative_path) else {
            return Ok(false);
        };
        match std::fs::metadata(self.root().join(path)) {
            Ok(metadata) => Ok(metadata.is_file()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl Walk {
    /// The next entries, `limit` at most; none: that was all.
    pub async fn next_page(mut self, limit: usize) -> Result<(Self, Vec<Entry>), FilesError> {
        blocking("look through FILES_ROOT", move || {
            if !self.has_begun {
                self.has_begun = true;
                self.enter(String::new(), Level::Root)?;
            }
            let mut page = Vec::with_capacity(limit);
            while page.len() < limit {
                match self.next()? {
                    Some(entry) => page.push(entry),
                    None => break,
                }
            }
            Ok((self, page))
        })
        .await
    }

    fn next(&mut self) -> io::Result<Option<Entry>> {
        while let Some(folder) = self.open.last_mut() {
            match folder.entries.next() {
                Some(entry) => {
                    folder.is_empty = false;
                    let level = folder.level;
                    if let Some(entry) = self.visit(level, &entry?)? {
                        return Ok(Some(entry));
                    }
                }
                None => {
                    if let Some(entry) = self.leave()? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Ok(None)
    }

    /// `None`: a folder, which is open now, or nothing to speak of.
    fn visit(&mut self, level: Level, entry: &DirEntry) -> io::Result<Option<Entry>> {
        let name = entry.file_name();
        let relative_path = match self.open.last() {
            Some(folder) if !folder.relative_path.is_empty() => {
                format!("{}/{}", folder.relative_path, name.to_string_lossy())
            }
            _ => name.to_string_lossy().into_owned(),
        };
        // Of the entry itself, whatever it points to.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let name = name.to_str().unwrap_or_default();
        let inner = match level {
            Level::Root if name.starts_with(OWN_MARKERS) => return Ok(None),
            Level::Root if name == INCOMING => Some(Level::Incoming),
            Level::Root if is_domain_folder(name) => Some(Level::Domain),
            Level::Domain => file_of_folder(name).map(Level::File),
            _ => None,
        };
        let what = match level {
            _ if metadata.is_dir() => match inner {
                Some(inner) => match self.enter(relative_path.clone(), inner) {
                    Ok(()) => return Ok(None),
                    // An operator's own.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => What::Strange,
                    Err(error) => return Err(error),
                },
                None => What::Strange,
            },
            Level::Incoming if metadata.is_file() && file_of_folder(name).is_some() => What::Upload,
            Level::File(id) if metadata.is_file() && is_stored_name(name) => What::Contents(id),
            _ => What::Strange,
        };
        Ok(Some(Entry {
            what,
            relative_path,
            age: age(&metadata, self.now),
            size_bytes: metadata.len(),
        }))
    }

    /// A folder that is gone meanwhile has nothing in it.
    fn enter(&mut self, relative_path: String, level: Level) -> io::Result<()> {
        let entries = match std::fs::read_dir(self.store.root().join(&relative_path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && level != Level::Root => return Ok(()),
            Err(error) => return Err(error),
        };
        self.open.push(Folder {
            relative_path,
            level,
            entries,
            is_empty: true,
        });
        Ok(())
    }

    fn leave(&mut self) -> io::Result<Option<Entry>> {
        let Some(folder) = self.open.pop() else {
            return Ok(None);
        };
        if !folder.is_empty || matches!(folder.level, Level::Root | Level::Incoming) {
            return Ok(None);
        }
        match std::fs::symlink_metadata(self.store.root().join(&folder.relative_path)) {
            Ok(metadata) => Ok(Some(Entry {
                what: What::EmptyFolder,
                relative_path: folder.relative_path,
                age: age(&metadata, self.now),
                size_bytes: 0,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Since the last write or change of its name, whichever was later: a backup that was put back keeps the time of its last
/// write, and is young all the same. What lies in the future has no age.
fn age(metadata: &Metadata, now: SystemTime) -> Duration {
    let written = metadata.modified().unwrap_or(now);
    let changed = u64::try_from(metadata.ctime()).unwrap_or_default();
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed);
    now.duration_since(written.max(changed)).unwrap_or_default()
}

fn if_there(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FilesError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(failed(action)),
        Err(stopped) => Err(failed(action)(io::Error::other(stopped))),
    }
}

#[cfg(test)]
mod tests;
