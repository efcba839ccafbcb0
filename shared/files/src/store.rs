//! The store itself: save, open, delete.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufWriter};
use uuid::Uuid;

use crate::contents::Contents;
use crate::error::{FilesError, SaveError, failed};
use crate::health::{Health, StorageFailure};
use crate::layout::{INCOMING, checked, folder, relative_path, stored_name};
use crate::root::{Expectation, Root};
use crate::saved::{Saved, remove_now};

/// How many of the first bytes a save hands back for recognizing the type.
pub const HEAD_BYTES: usize = 8192;
/// Contents are written in pieces of this size, however small the pieces are in which they arrive.
const WRITE_BYTES: usize = 256 * 1024;

/// A folder of file contents. Cheap to clone; processes and machines that share the folder may all use it at once.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: Root,
    health: Health,
}

impl FileStore {
    /// Touches nothing yet. Until [`expect`](Self::expect) is called, any folder is taken for the right one.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: Root::new(root.into()),
            health: Health::default(),
        }
    }

    /// From now on the root is believed only while it has this marker.
    pub fn expect(&self, marker: Uuid) {
        self.root.expect(Expectation::Marker(marker));
    }

    /// Until [`expect`](Self::expect) is called, the root is not believed, for this reason.
    pub fn distrust(&self, reason: &str) {
        self.root.expect(Expectation::Unknown(reason.to_owned()));
    }

    /// Whether it is known what the root has to show.
    pub fn is_expectation_known(&self) -> bool {
        self.root.is_known()
    }

    /// The root's marker, if it has one.
    pub async fn marker(&self) -> Result<Option<Uuid>, FilesError> {
        self.root.marker().await
    }

    /// Writes the root's marker, unless it has one; makes the root if need be.
    pub async fn mark(&self, marker: Uuid) -> Result<(), FilesError> {
        self.root.mark(marker).await
    }

    /// Whether there is anything at this path, whatever is expected of the root.
    pub async fn exists(&self, relative_path: &str) -> Result<bool, FilesError> {
        let path = self.root.join(checked(relative_path)?);
        fs::try_exists(path)
            .await
            .map_err(failed("look for the file contents"))
    }

    /// [`FilesError::NotMounted`] unless the root is what it is expected to be.
    pub async fn check_root(&self) -> Result<(), FilesError> {
        self.root.check().await
    }

    /// What keeps this process from reading files, as far as it has met it.
    pub fn failure(&self) -> Option<StorageFailure> {
        self.health.failure()
    }

    /// How long to leave what cannot be read here: the longer the failure has lasted, the longer.
    pub fn pause(&self) -> Duration {
        self.health.pause()
    }

    /// Finds out whether the root can be used, and whether what could not be read last can be read by now.
    pub async fn probe(&self) -> Result<(), FilesError> {
        let suspect = self.health.failure().and_then(|failure| failure.suspect);
        if let Err(error) = self.root.check().await {
            self.health.note(&error, suspect);
            return Err(error);
        }
        if let Some((path, at)) = suspect {
            let tried = async {
                let mut file = File::open(&path).await?;
                file.seek(io::SeekFrom::Start(at)).await?;
                file.read(&mut [0; 4096]).await
            };
            match tried.await {
                Ok(_) => {}
                // It was replaced or deleted, or is lost: the root is there, so this is the file's matter.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let action = "read the file contents";
                    let error = FilesError::Io { action, source };
                    self.health.note(&error, Some((path, at)));
                    return Err(error);
                }
            }
        }
        self.health.clear();
        Ok(())
    }

    /// Streams `contents` into a new version of the file and answers where it is.
    ///
    /// The bytes are hashed on the way, are on disk (fsync, also of the folders) when this returns, and appear under
    /// their final path at once or not at all. Memory use does not depend on their size. When this fails, or its future
    /// is dropped, nothing is left; when the result is dropped without [`Saved::keep`], neither.
    pub async fn save<S, E>(
        &self,
        domain: &str,
        file_id: Uuid,
        file_name: &str,
        contents: S,
        max_bytes: u64,
    ) -> Result<Saved, SaveError<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        // What is put into a folder that is not mounted would be lost with the mount.
        self.noting(self.root.check().await)?;
        let folder = self.root.join(INCOMING);
        fs::create_dir_all(&folder)
            .await
            .map_err(failed("create the folder of file contents"))?;
        let incoming = Incoming(folder.join(Uuid::new_v4().to_string()));
        let (size_bytes, sha256, head) = receive(&incoming.0, contents, max_bytes).await?;
        let name = stored_name(&sha256, Uuid::new_v4(), file_name);
        let relative_path = relative_path(domain, file_id, &name);
        let path = self.root.join(&relative_path);
        let saved = Saved {
            relative_path,
            size_bytes,
            sha256,
            head,
            remove_on_drop: Some(path.clone()),
        };
        // In a task of its own, because a rename cannot be called back: when the caller goes away, the task ends its
        // work and then drops `saved`, which removes what was published.
        let root = self.root.path.clone();
        let publishing = tokio::spawn(async move {
            publish(&root, &incoming.0, &path)
                .await
                .map_err(failed("store the file contents"))?;
            Ok(saved)
        });
        match publishing.await {
            Ok(result) => result.map_err(SaveError::Files),
            Err(stopped) => Err(failed("store the file contents")(io::Error::other(stopped)).into()),
        }
    }

    /// Opens stored contents for reading.
    ///
    /// [`FilesError::NotFound`] is a statement about the file: the root is the right one, and can be read.
    pub async fn open(&self, relative_path: &str) -> Result<Contents, FilesError> {
        let path = self.root.join(checked(relative_path)?);
        let opened = self.open_at(&path, relative_path).await;
        opened.inspect_err(|error| {
            let of_file = matches!(error, FilesError::Io { .. });
            self.health.note(error, of_file.then_some((path, 0)));
        })
    }

    async fn open_at(&self, path: &Path, relative_path: &str) -> Result<Contents, FilesError> {
        let file = match File::open(path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.root.check().await?;
                return Err(FilesError::NotFound(relative_path.to_owned()));
            }
            Err(error) => return Err(failed("open the file contents")(error)),
        };
        let metadata = file
            .metadata()
            .await
            .map_err(failed("read the size of the file contents"))?;
        if !metadata.is_file() {
            return Err(FilesError::InvalidPath(relative_path.to_owned()));
        }
        Ok(Contents {
            file,
            path: path.to_owned(),
            size_bytes: metadata.len(),
            health: self.health.clone(),
        })
    }

    /// The hash of what lies on disk, in 64 lower-case hex digits.
    pub async fn sha256(&self, relative_path: &str) -> Result<String, FilesError> {
        let contents = self.open(relative_path).await?;
        contents.sha256().await.map_err(failed("read the file contents"))
    }

    fn noting<T>(&self, result: Result<T, FilesError>) -> Result<T, FilesError> {
        result.inspect_err(|error| self.health.note(error, None))
    }

    /// Removes stored contents; answers whether there were any.
    pub async fn delete(&self, relative_path: &str) -> Result<bool, FilesError> {
        let path = self.root.join(checked(relative_path)?);
        match fs::remove_file(&path).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.noting(self.root.check().await)?;
                return Ok(false);
            }
            Err(error) => return Err(failed("remove the file contents")(error)),
        }
        if let Some(folder) = path.parent() {
            // Fails, as it should, while the folder holds another version.
            let _not_empty = fs::remove_dir(folder).await;
        }
        Ok(true)
    }

    /// Removes every version under a file's id: no row names them, because their saver died before it wrote one. Answers how
    /// many there were.
    pub async fn delete_versions(&self, domain: &str, file_id: Uuid) -> Result<u64, FilesError> {
        let action = "remove unwanted file contents";
        let folder = self.root.join(folder(domain, file_id));
        let mut entries = match fs::read_dir(&folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.noting(self.root.check().await)?;
                return Ok(0);
            }
            Err(source) => return Err(FilesError::Io { action, source }),
        };
        let mut removed = 0;
        while let Some(entry) = entries.next_entry().await.map_err(failed(action))? {
            fs::remove_file(entry.path()).await.map_err(failed(action))?;
            removed += 1;
        }
        let _others_were_faster = fs::remove_dir(&folder).await;
        Ok(removed)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root.path
    }
}

async fn publish(root: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(root);
    // A delete may take the empty folder away between the two calls; then it is made again.
    let mut tries = 0;
    loop {
        fs::create_dir_all(folder).await?;
        match fs::rename(from, to).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 3 => tries += 1,
            result => break result?,
        }
    }
    // The name is durable only once every folder on the way is.
    let mut folder = Some(folder);
    while let Some(path) = folder.filter(|path| path.starts_with(root)) {
        File::open(path).await?.sync_all().await?;
        folder = path.parent();
    }
    Ok(())
}

/// Removes a half-received upload, whatever ended it. After a successful rename there is nothing left to remove.
struct Incoming(PathBuf);

impl Drop for Incoming {
    fn drop(&mut self) {
        remove_now(&self.0);
    }
}

async fn receive<S, E>(path: &Path, contents: S, max_bytes: u64) -> Result<(u64, String, Bytes), SaveError<E>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let file = File::create_new(path)
        .await
        .map_err(failed("create a file for the contents"))?;
    write(file, contents, max_bytes).await
}

/// Returns when the contents are on disk.
async fn write<S, E>(file: File, contents: S, max_bytes: u64) -> Result<(u64, String, Bytes), SaveError<E>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut writer = BufWriter::with_capacity(WRITE_BYTES, file);
    let mut hasher = Sha256::new();
    let mut head = BytesMut::new();
    let mut size_bytes = 0_u64;
    let mut contents = std::pin::pin!(contents);
    while let Some(piece) = contents.next().await {
        let piece = piece.map_err(SaveError::Source)?;
        size_bytes += piece.len() as u64;
        if size_bytes > max_bytes {
            return Err(SaveError::TooLarge { limit: max_bytes });
        }
        let missing = HEAD_BYTES.saturating_sub(head.len()).min(piece.len());
        head.extend_from_slice(&piece[..missing]);
        hasher.update(&piece);
        writer
            .write_all(&piece)
            .await
            .map_err(failed("write the file contents"))?;
    }
    writer.flush().await.map_err(failed("write the file contents"))?;
    writer
        .into_inner()
        .sync_all()
        .await
        .map_err(failed("write the file contents to disk"))?;
    Ok((size_bytes, hex::encode(hasher.finalize()), head.freeze()))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod unreadable;
