//! Files at a provider, and the streams that carry their bytes in and out.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;
use serde_json::Value;

use super::wire::{WireObject, null_as_default, unix_seconds};
use crate::error::ProviderError;

/// Bytes on their way to a provider.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Where the bytes of an upload come from. It is opened again for every try and for every part of a large upload, so it
/// must yield the same bytes each time; a source whose file has changed should fail instead.
#[async_trait]
pub trait UploadSource: Send + Sync {
    /// A stream of everything from byte `offset` to the end, in pieces of moderate size (64 KiB, say).
    async fn open(&self, offset: u64) -> io::Result<ByteStream>;
}

/// An upload source over bytes that are in memory anyway. For small things and tests.
#[derive(Debug, Clone)]
pub struct BytesSource(pub Bytes);

#[async_trait]
impl UploadSource for BytesSource {
    async fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Ok(stream::iter([Ok(self.0.slice(start..))]).boxed())
    }
}

/// A file to upload.
#[derive(Clone)]
pub struct FileUpload {
    pub file_name: String,
    /// The caller's idea of the MIME type; an adapter may replace it where its provider insists.
    pub content_type: Option<String>,
    /// Exact. A source that yields more or fewer bytes fails the upload ([`ErrorKind::LocalCorruption`]) before its last bytes
    /// are sent.
    ///
    /// [`ErrorKind::LocalCorruption`]: crate::ErrorKind::LocalCorruption
    pub size_bytes: u64,
    /// Of all bytes, in 64 lower-case hex digits; `None`: not known. Bytes with another hash fail the upload in the same way.
    pub sha256: Option<String>,
    pub body: Arc<dyn UploadSource>,
}

impl fmt::Debug for FileUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileUpload")
            .field("file_name", &self.file_name)
            .field("content_type", &self.content_type)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// Changes to a file. No provider known today offers this.
#[derive(Debug, Clone, Default)]
pub struct FileUpdate {
    pub file_name: Option<String>,
}

/// A file as the provider describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct ProviderFile {
    pub id: String,
    #[serde(rename = "filename", default, deserialize_with = "null_as_default")]
    pub file_name: String,
    #[serde(rename = "bytes", default, deserialize_with = "null_as_default")]
    pub size_bytes: u64,
    #[serde(default, deserialize_with = "unix_seconds")]
    pub created_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "unix_seconds")]
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub purpose: String,
    /// The provider's JSON, whole.
    #[serde(skip)]
    pub raw: Value,
}

impl WireObject for ProviderFile {
    const OBJECTS: &'static [&'static str] = &["file"];

    fn id(&self) -> &str {
        &self.id
    }

    fn keep_raw(&mut self, raw: Value) {
        self.raw = raw;
    }
}

/// A download under way. The stream ends with an error if the connection breaks, stalls, or delivers fewer bytes than
/// promised: a stream that ends without an error is the whole file.
pub struct FileContent {
    pub content_type: Option<String>,
    /// As promised by the provider, if it promised anything.
    pub size_bytes: Option<u64>,
    pub stream: BoxStream<'static, Result<Bytes, ProviderError>>,
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileContent")
            .field("content_type", &self.content_type)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}
