//! The sweep's marker in FILES_ROOT: a small file that says which database compares its rows with this folder.
//!
//! One line per database: its id and a stamp, or its id alone where a database has found the folder to be another's. Nothing
//! is swept unless there is one line, and it is our own. Who may write it when is the sweep's matter (`rag-worker`).

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::FileStore;
use crate::error::{FilesError, failed};

/// The name of the marker in FILES_ROOT.
pub const MARKER: &str = ".rag-files-sweep";
/// While it is written. One name, so that killed processes leave one at most.
const NEW_MARKER: &str = ".rag-files-sweep.new";
/// What an operator writes into the marker to say that the folder belongs to the database that checks it next.
const CLAIM: &str = "claim";
/// More is not read: nobody has so many databases.
const MOST_BYTES: u64 = 16 * 1024;

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    Absent,
    /// An operator wants the folder to be claimed anew.
    ToBeClaimed,
    /// The first is the owner; more than one share the folder.
    Of(Vec<Line>),
    /// Not ours, or half written.
    Unreadable,
}

/// A database that uses the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub database_id: String,
    /// `None`: it is not the owner.
    pub stamp: Option<String>,
}

impl FileStore {
    fn sweep_marker(&self) -> PathBuf {
        self.root().join(MARKER)
    }

    /// What the marker says now.
    pub async fn read_marker(&self) -> Result<Marker, FilesError> {
        let action = "read the marker of FILES_ROOT";
        let file = match File::open(self.sweep_marker()).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Marker::Absent),
            Err(source) => return Err(FilesError::Io { action, source }),
        };
        let mut text = Vec::new();
        file.take(MOST_BYTES)
            .read_to_end(&mut text)
            .await
            .map_err(failed(action))?;
        Ok(parse(&text))
    }

    /// Makes the marker; answers `false` if there is one.
    pub async fn create_marker(&self, line: &Line) -> Result<bool, FilesError> {
        let action = "make the marker of FILES_ROOT";
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.sweep_marker())
            .await;
        let file = match created {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(source) => return Err(FilesError::Io { action, source }),
        };
        if let Err(error) = write(file, line).await {
            // Half a marker would stand in everybody's way until an operator comes.
            let _left = fs::remove_file(self.sweep_marker()).await;
            return Err(failed(action)(error));
        }
        sync_folder(self.root()).await.map_err(failed(action))?;
        Ok(true)
    }

    /// Replaces the marker, at once or not at all.
    pub async fn replace_marker(&self, line: &Line) -> Result<(), FilesError> {
        let action = "write the marker of FILES_ROOT";
        let new = self.root().join(NEW_MARKER);
        let file = File::create(&new).await.map_err(failed(action))?;
        write(file, line).await.map_err(failed(action))?;
        fs::rename(&new, self.sweep_marker())
            .await
            .map_err(failed(action))?;
        sync_folder(self.root()).await.map_err(failed(action))
    }

    /// Notes in another database's marker that this one uses the folder too.
    pub async fn join_marker(&self, database_id: &str) -> Result<(), FilesError> {
        let action = "note a second database in the marker of FILES_ROOT";
        let file = OpenOptions::new().append(true).open(self.sweep_marker()).await;
        let line = Line {
            database_id: database_id.to_owned(),
            stamp: None,
        };
        write(file.map_err(failed(action))?, &line)
            .await
            .map_err(failed(action))
    }
}

async fn write(mut file: File, line: &Line) -> io::Result<()> {
    let text = match &line.stamp {
        Some(stamp) => format!("{} {stamp}\n", line.database_id),
        None => format!("{}\n", line.database_id),
    };
    file.write_all(text.as_bytes()).await?;
    file.flush().await?;
    file.sync_all().await
}

async fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder).await?.sync_all().await
}

fn parse(text: &[u8]) -> Marker {
    let Some(text) = std::str::from_utf8(text).ok() else {
        return Marker::Unreadable;
    };
    if text.trim() == CLAIM {
        return Marker::ToBeClaimed;
    }
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let line = Line {
            database_id: words.next()?,
            stamp: words.next(),
        };
        let is_id = Uuid::try_parse(&line.database_id).is_ok();
        (is_id && words.next().is_none()).then_some(line)
    };
    let lines: Option<Vec<Line>> = text.lines().map(line).collect();
    match lines {
        Some(lines) if text.ends_with('\n') && lines[0].stamp.is_some() => Marker::Of(lines),
        _ => Marker::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stamp: Option<&str>) -> Line {
        Line {
            database_id: Uuid::new_v4().to_string(),
            stamp: stamp.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn a_marker_is_made_once_replaced_and_joined() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::at(folder.path());
        assert_eq!(store.read_marker().await.unwrap(), Marker::Absent);
        let (first, second, other) = (line(Some("1")), line(Some("2")), line(None));
        assert!(
            store.join_marker(&other.database_id).await.is_err(),
            "of nobody's"
        );
        assert!(store.create_marker(&first).await.unwrap());
        assert!(!store.create_marker(&second).await.unwrap());
        assert_eq!(store.read_marker().await.unwrap(), Marker::Of(vec![first]));
        store.replace_marker(&second).await.unwrap();
        store.join_marker(&other.database_id).await.unwrap();
        assert_eq!(
            store.read_marker().await.unwrap(),
            Marker::Of(vec![second, other])
        );
    }

    #[test]
    fn what_we_did_not_write_is_not_believed() {
        assert_eq!(parse(b"claim\n"), Marker::ToBeClaimed);
        let id = Uuid::new_v4();
        for text in [
            String::new(),
            "\n".to_owned(),
            "hello".to_owned(),
            format!("{id}\n"),
            format!("{id} 1"),
            format!("{id} 1 2\n"),
            format!("{id} 1\n{id} 1\nx\n"),
        ] {
            assert_eq!(parse(text.as_bytes()), Marker::Unreadable, "{text:?}");
        }
        assert_eq!(parse(b"\xff\xfe"), Marker::Unreadable);
    }
}
