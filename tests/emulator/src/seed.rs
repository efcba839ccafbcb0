//! Many stores with many small files at once, as if somebody had filled the provider long ago: nothing is indexed for real,
//! and search finds nothing in them.

use crate::{
    body::{Body, Written},
    chunking::{Chunk, ChunkSizes, ChunkedText},
    context::Context,
    control::Control,
    ids::{Id, Kind, new_id},
    state::{AttachRequest, NewFile, StoreChange},
};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::sync::Arc;

/// What to make.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    pub stores: usize,
    pub files_per_store: usize,
}

/// What was made: each store with its files.
#[derive(Debug, Clone, Serialize)]
pub struct Seeded {
    pub stores: Vec<(Id, Vec<Id>)>,
}

impl Control {
    /// Makes stores `seeded-N` with files `seeded-N-M.txt`, each with contents of its own, all of them completed.
    pub fn seed(&self, seed: Seed) -> Seeded {
        let mut context = Context::new("seed");
        context.external = true;
        let profile = self.0.options.profile;
        let mut stores = Vec::with_capacity(seed.stores);
        for n in 0..seed.stores {
            let mut state = self.0.state.lock();
            let store = new_id(Kind::Store, profile);
            let change = StoreChange {
                name: Some(format!("seeded-{n}")),
                ..StoreChange::default()
            };
            state.create_store(&context, store.clone(), change);
            let mut files = Vec::with_capacity(seed.files_per_store);
            for m in 0..seed.files_per_store {
                let new = NewFile {
                    id: new_id(Kind::File, profile),
                    filename: format!("seeded-{n}-{m}.txt").into(),
                    purpose: "assistants".into(),
                    expires_after_seconds: None,
                    written: written(format!("the text of file {m} in store {n}")),
                };
                let file = state.create_file(&context, new, None);
                let request = AttachRequest {
                    file_id: file.id.clone(),
                    sizes: ChunkSizes::AUTO,
                    attributes: Map::new(),
                };
                if let Ok(Some(job)) = state.attach(&context, &store, request, None) {
                    state.finish_indexing(&job, Ok(Arc::new(one_chunk(file.bytes))));
                }
                files.push(file.id);
            }
            stores.push((store, files));
        }
        Seeded { stores }
    }
}

fn written(text: String) -> Written {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    Written {
        bytes: text.len() as u64,
        sha256: hex::encode(digest).into(),
        body: Arc::new(Body::Memory(text.into())),
    }
}

fn one_chunk(bytes: u64) -> ChunkedText {
    let chunk = Chunk {
        start: 0,
        end: bytes,
        tokens: 8,
    };
    ChunkedText {
        chunks: vec![chunk],
        tokens: 8,
        ..ChunkedText::default()
    }
}
