//! The contents that an upload sends, as they lie under FILES_ROOT.
//!
//! Contents that are lost, or are other bytes than their row says, are the file's failure. Contents that can't be read here are
//! not: another worker may read them.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use rag_db::composition::Member;
use rag_files::{FileStore, FilesError};
use rag_providers::{ByteStream, ErrorKind, FileUpload, UploadSource};

use crate::context::Context;
use crate::step_error::chain;

/// Why there is nothing to send.
pub(super) enum Unavailable {
    /// On this machine.
    Here(FilesError),
    Lost(String),
    Corrupted(String),
}

/// Opens the contents of a file.
pub(super) async fn open(context: &Context, member: &Member) -> Result<FileUpload, Unavailable> {
    let opened = context.files.open(&member.local_path).await;
    let contents = opened.map_err(|error| {
        if error.is_storage_failure() {
            Unavailable::Here(error)
        } else {
            Unavailable::Lost(chain(&error))
        }
    })?;
    let (size_bytes, expected) = (contents.size_bytes(), member.desired.size_bytes);
    if size_bytes != expected {
        return Err(Unavailable::Corrupted(format!(
            "{}: the stored file has {size_bytes} bytes instead of {expected}",
            ErrorKind::LocalCorruption
        )));
    }
    Ok(FileUpload {
        file_name: member.file_name.clone(),
        content_type: Some(member.file_type.clone()),
        size_bytes,
        sha256: Some(member.desired.content_sha256.clone()),
        body: Arc::new(StoredFile {
            files: context.files.clone(),
            path: member.local_path.clone(),
        }),
    })
}

/// Stored contents as the provider layer reads them. A path is never written twice, so every opening sees the same bytes.
struct StoredFile {
    files: FileStore,
    path: String,
}

#[async_trait]
impl UploadSource for StoredFile {
    async fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let contents = self.files.open(&self.path).await.map_err(io::Error::other)?;
        contents.part(offset, u64::MAX).await
    }
}
