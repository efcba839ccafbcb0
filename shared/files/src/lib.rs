//! File contents below FILES_ROOT: streamed in, hashed on the way, streamed out.
//!
//! Layout, relative to the root:
//!
//! ```text
//! .rag-files-root                                       whose files these are: known to the database (see `root`)
//! .rag-files-sweep                                      which database compares its rows with this folder
//! .incoming/<uuid>                                      uploads that are still arriving
//! <domain folder>/<file id>/<sha256>-<version>-<name>   one path per stored version, never overwritten
//! ```
//!
//! Every save gets a path of its own, so replacing a file's bytes never touches those that a running upload reads.
//! Domain and file name are hostile input; [`layout`](self) turns both into safe components, and [`FileStore::open`]
//! takes nothing that does not look like this layout.
//!
//! Contents that cannot be read are told apart: lost, or other bytes than recorded, is the file's fault ([`Corrupted`],
//! [`FilesError::NotFound`]); an error of the disk, or a root that is not mounted, is this machine's
//! ([`FilesError::is_storage_failure`]), and is remembered until reading works again ([`FileStore::failure`]).
//!
//! Not here: which file belongs to whom, its real name and type (`rag_files`, in rag-db).

mod contents;
mod error;
mod health;
mod layout;
mod root;
mod saved;
mod store;
mod sweep_marker;
mod walk;

pub use contents::{Contents, Pieces};
pub use error::{Corrupted, FilesError, SaveError};
pub use health::StorageFailure;
pub use saved::Saved;
pub use store::{FileStore, HEAD_BYTES};
pub use sweep_marker::{Line, MARKER, Marker};
pub use walk::{Entry, Walk, What};
