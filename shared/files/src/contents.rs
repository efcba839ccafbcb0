//! Stored contents that were opened: streamed as they are, or held against their hash on the way.

use std::io::{self, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::error::Corrupted;
use crate::health::Health;

const READ_BYTES: usize = 64 * 1024;

/// Opened contents. A path is never written twice, so they stay the same, also when the file is replaced meanwhile.
#[derive(Debug)]
pub struct Contents {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
    pub(crate) health: Health,
}

/// Pieces of contents. A read error ends them, and is noted as this machine's failure.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

impl Contents {
    /// Their length on disk, which is not necessarily what a row says.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes from `first` on, `length` of them at most.
    pub async fn part(mut self, first: u64, length: u64) -> io::Result<Pieces> {
        if first > 0 {
            let sought = self.file.seek(SeekFrom::Start(first)).await;
            sought.inspect_err(|error| self.health.note_read(error, (self.path.clone(), first)))?;
        }
        let (health, path) = (self.health, self.path);
        let pieces = ReaderStream::with_capacity(self.file.take(length), READ_BYTES);
        let mut at = first;
        Ok(pieces
            .inspect(move |piece| match piece {
                Ok(piece) => at += piece.len() as u64,
                Err(error) => health.note_read(error, (path.clone(), at)),
            })
            .boxed())
    }

    /// All bytes.
    pub async fn pieces(self) -> io::Result<Pieces> {
        self.part(0, u64::MAX).await
    }

    /// All bytes; but instead of the last piece comes [`Corrupted`] (within an [`io::Error`]) if they are not those of `sha256`.
    pub async fn verified(self, sha256: &str) -> io::Result<Pieces> {
        Ok(verified(self.pieces().await?, sha256.to_owned()).boxed())
    }

    /// The hash of all bytes, in 64 lower-case hex digits.
    pub async fn sha256(self) -> io::Result<String> {
        let mut pieces = self.pieces().await?;
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.next().await {
            hasher.update(&piece?);
        }
        Ok(hex::encode(hasher.finalize()))
    }
}

/// Keeps one piece back, so that no reader has all of them without knowing it.
fn verified(pieces: Pieces, recorded: String) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let begin = (pieces, Sha256::new(), None::<Bytes>, recorded);
    stream::try_unfold(begin, |(mut pieces, mut hasher, mut kept, recorded)| async move {
        while let Some(piece) = pieces.next().await.transpose()? {
            hasher.update(&piece);
            if let Some(ready) = kept.replace(piece) {
                return Ok(Some((ready, (pieces, hasher, kept, recorded))));
            }
        }
        let found = hex::encode(hasher.clone().finalize());
        if found != recorded {
            return Err(io::Error::other(Corrupted { found, recorded }));
        }
        // The next time round there is nothing more, and the hash is still right.
        Ok(kept.take().map(|last| (last, (pieces, hasher, kept, recorded))))
    })
}
