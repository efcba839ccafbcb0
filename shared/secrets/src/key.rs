//! One key, and what is derived from it.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// 32 bytes, the SHA-256 of the configured text: the predecessor derived its key so, and its texts keep working. The text
/// should be random; a hash does not make a guessable word strong.
#[derive(Clone)]
pub(crate) struct Key {
    bytes: Zeroizing<[u8; 32]>,
    id: String,
}

impl Key {
    pub(crate) fn from_text(text: &str) -> Self {
        let bytes = Zeroizing::new(Sha256::digest(text.as_bytes()).into());
        let mut hash = Sha256::new();
        hash.update(b"rag-indexer key id\0");
        hash.update(*bytes);
        let id = hex::encode(&hash.finalize()[..4]);
        Self { bytes, id }
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Eight hex digits that tell keys apart and nothing about them.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// The id only.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}
