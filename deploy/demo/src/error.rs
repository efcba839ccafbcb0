//! What can go wrong between the demo and the programs it talks to.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("{what}: no usable answer")]
    Transport { what: String, source: reqwest::Error },

    #[error("{what}: refused with {status}: {message}")]
    Refused {
        what: String,
        status: reqwest::StatusCode,
        message: String,
    },

    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },

    #[error("{} has no documents that the demo knows (text, Markdown, source code, configuration)", folder.display())]
    NothingToIndex { folder: PathBuf },

    #[error("cannot look into the folder")]
    Folder(#[from] ignore::Error),
}
