//! The bytes of uploaded files: small ones in memory, the rest in the emulator's temporary directory. Nothing here
//! ever holds a whole large file in memory.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use std::{
    io::{self, Read, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

/// Larger bodies go to disk.
const MEMORY_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) enum Body {
    Memory(Bytes),
    /// The file is unlinked when the last user of the body is gone.
    Disk(TempPath),
}

impl Body {
    /// Blocking reader from the start.
    pub(crate) fn reader(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            Self::Disk(path) => Box::new(std::fs::File::open(path)?),
        })
    }

    /// Blocking: the bytes of `range`, or fewer at the end of the body.
    pub(crate) fn read_range(&self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Memory(all) => {
                let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(all.len());
                bytes.extend_from_slice(&all[clamp(start)..clamp(end)]);
            }
            Self::Disk(path) => {
                let mut file = std::fs::File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes)
    }

    pub(crate) async fn stream(
        self: Arc<Self>,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        Ok(match &*self {
            Self::Memory(bytes) => stream::iter([Ok(bytes.clone())]).left_stream(),
            Self::Disk(path) => {
                let file = tokio::fs::File::open(path).await?;
                ReaderStream::with_capacity(file, 64 * 1024).right_stream()
            }
        })
    }
}

/// A finished body with what was learned while writing it.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub body: Arc<Body>,
    pub bytes: u64,
    /// Lowercase hex.
    pub sha256: Arc<str>,
}

/// Takes a body in pieces; dropped unfinished, it leaves nothing behind.
pub(crate) struct BodyWriter<'a> {
    directory: &'a Path,
    memory: BytesMut,
    disk: Option<(tokio::fs::File, TempPath)>,
    bytes: u64,
    digest: ring::digest::Context,
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(directory: &'a Path) -> Self {
        let digest = ring::digest::Context::new(&ring::digest::SHA256);
        Self {
            directory,
            memory: BytesMut::new(),
            disk: None,
            bytes: 0,
            digest,
        }
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.bytes += piece.len() as u64;
        self.digest.update(piece);
        if let Some((file, _)) = &mut self.disk {
            return file.write_all(piece).await;
        }
        self.memory.extend_from_slice(piece);
        if self.memory.len() > MEMORY_BYTES {
            let (file, path) = tempfile::NamedTempFile::new_in(self.directory)?.into_parts();
            let mut file = tokio::fs::File::from_std(file);
            file.write_all(&self.memory).await?;
            self.memory = BytesMut::new();
            self.disk = Some((file, path));
        }
        Ok(())
    }

    pub(crate) async fn finish(self) -> io::Result<Written> {
        let body = match self.disk {
            Some((mut file, path)) => {
                file.flush().await?;
                Body::Disk(path)
            }
            None => Body::Memory(self.memory.freeze()),
        };
        let sha256 = hex::encode(self.digest.finish()).into();
        Ok(Written {
            body: Arc::new(body),
            bytes: self.bytes,
            sha256,
        })
    }
}
