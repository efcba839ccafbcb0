//! File contents below FILES_ROOT: streamed in, hashed on the way, streamed out.
//!
//! Layout, relative to the root:
//!
//! ```text
//! .rag-files-sweep                                      which database compares its rows with this folder
//! .incoming/<uuid>                                      uploads that are still arriving
//! <domain folder>/<file id>/<sha256>-<version>-<name>   one path per stored version, never overwritten
//! ```
//!
//! Every save gets a path of its own, so replacing a file's bytes never touches those that a running upload reads.
//! Domain and file name are hostile input; [`layout`](self) turns both into safe components, and [`FileStore::open`]
//! takes nothing that does not look like this layout.
//!
//! Not here: which file belongs to whom, its real name and type (`rag_files`, in rag-db).

mod error;
mod layout;
mod marker;
mod saved;
mod store;
mod walk;

pub use error::{FilesError, SaveError};
pub use marker::{Line, MARKER, Marker};
pub use saved::Saved;
pub use store::{FileStore, HEAD_BYTES};
pub use walk::{Entry, Walk, What};
