//! Small texts, each with other words.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

/// About so long.
pub(crate) const BYTES: usize = 2048;

pub(crate) struct Documents(TempDir);

impl Documents {
    pub(crate) fn write(count: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut random = StdRng::seed_from_u64(1);
        for number in 0..count {
            let mut text = format!("Document {number}.");
            while text.len() < BYTES {
                let _ = write!(text, " w{:x}", random.random::<u32>());
            }
            std::fs::write(folder.path().join(format!("document-{number:06}.txt")), text)?;
        }
        Ok(Self(folder))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
}
