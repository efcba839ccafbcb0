//! Whether a folder is the one that an installation stores its files in: told by a marker in it, which the database knows.
//!
//! Without that, a folder that is not mounted looks as if every file in it had been lost. Who compares marker and database is
//! the API (`rag-api` writes both) and the worker (which only reads); here is what they need of the folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::error::{FilesError, failed};

/// The marker's name below the root. No path of stored contents begins with a dot.
const MARKER: &str = ".rag-files-root";

/// What the root has to show before it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Nothing: no marker tells whose the root is.
    Anything,
    /// Its marker is not known, for this reason: nothing of the root is believed.
    Unknown(String),
    Marker(Uuid),
}

/// The root folder, and what is expected of it. Clones share the expectation.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    expected: Arc<RwLock<Expectation>>,
}

impl Root {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            expected: Arc::new(RwLock::new(Expectation::Anything)),
        }
    }

    pub(crate) fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }

    pub(crate) fn expect(&self, expectation: Expectation) {
        *self.expected.write().unwrap_or_else(PoisonError::into_inner) = expectation;
    }

    pub(crate) fn is_known(&self) -> bool {
        !matches!(self.expected(), Expectation::Unknown(_))
    }

    fn expected(&self) -> Expectation {
        self.expected
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// [`FilesError::NotMounted`] unless the root shows what is expected of it.
    pub(crate) async fn check(&self) -> Result<(), FilesError> {
        let id = match self.expected() {
            Expectation::Anything => return Ok(()),
            Expectation::Unknown(reason) => return Err(FilesError::NotMounted(reason)),
            Expectation::Marker(id) => id,
        };
        match self.marker().await? {
            Some(found) if found == id => Ok(()),
            Some(found) => Err(FilesError::NotMounted(format!(
                "its marker {MARKER} says {found}, and the database {id}"
            ))),
            None => Err(FilesError::NotMounted(format!(
                "it has no marker {MARKER}; is it mounted?"
            ))),
        }
    }

    pub(crate) async fn marker(&self) -> Result<Option<Uuid>, FilesError> {
        let text = match fs::read_to_string(self.join(MARKER)).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read the marker of FILES_ROOT")(error)),
        };
        let id = Uuid::try_parse(text.trim());
        id.map(Some).map_err(|_| {
            FilesError::NotMounted(format!("its marker {MARKER} is not one that this program writes"))
        })
    }

    /// Writes the marker, and makes the folder if need be. Who comes second finds the first one's marker in place.
    pub(crate) async fn mark(&self, id: Uuid) -> Result<(), FilesError> {
        let action = "write the marker of FILES_ROOT";
        fs::create_dir_all(&self.path).await.map_err(failed(action))?;
        let own = self.join(format!("{MARKER}.{}", Uuid::new_v4().simple()));
        let result = async {
            let mut file = fs::File::create_new(&own).await?;
            file.write_all(format!("{}\n", id.hyphenated()).as_bytes())
                .await?;
            // What a full disk refuses is told here, and not by what follows.
            file.flush().await?;
            file.sync_all().await?;
            // Whole or not at all; and in place of nothing.
            match fs::hard_link(&own, self.join(MARKER)).await {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                // A file system without hard links.
                Err(_) => fs::rename(&own, self.join(MARKER)).await,
                Ok(()) => Ok(()),
            }
        }
        .await;
        let _gone_by_rename = fs::remove_file(&own).await;
        result.map_err(failed(action))
    }
}
