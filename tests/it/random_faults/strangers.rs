//! Others on the same account, with files of our names and sizes, and stores of their own.

use std::collections::{BTreeMap, BTreeSet};

use rag_emulator::Effect;
use rag_tests::Stack;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;

use super::world::{NAMES, name, text};
use crate::fixtures::external_changes::Other;
use crate::fixtures::ledger::effects;

const FILES: usize = 1000;
const ATTACHED: usize = 5;

/// What they had when they came.
#[derive(Debug)]
pub(super) struct Strangers {
    store: String,
}

/// What they have at the provider.
pub(super) struct Belongings {
    /// Files with their sums.
    pub(super) files: BTreeMap<String, String>,
    /// Files of their store.
    pub(super) attached: BTreeSet<String>,
}

impl Strangers {
    pub(super) async fn arrive(stack: &Stack) -> Self {
        let other = Other::at(stack);
        let store = other.create_store(&json!({"name": "handbook"})).await;
        for n in 0..FILES {
            let name = name(n % NAMES);
            let text = text("stranger", &name, u32::try_from(n / NAMES).unwrap());
            let file = other.create_file(&name, text.as_bytes()).await;
            if n < ATTACHED {
                other.attach(&store, &file, None).await;
            }
        }
        Self { store }
    }

    /// A file more, at a time at which our own uploads are on their way.
    pub(super) async fn come(stack: &Stack, random: &mut StdRng) {
        let name = name(random.random_range(0..NAMES));
        // Versions as ours, so that only the owner differs.
        let text = text("stranger", &name, random.random_range(0..100));
        Other::at(stack).create_file(&name, text.as_bytes()).await;
    }

    /// What they ever made, by the emulator's ledger.
    pub(super) fn belongings(stack: &Stack) -> Belongings {
        let made = effects(stack, Effect::FileCreated)
            .into_iter()
            .filter(|entry| entry.external);
        let files = made
            .map(|entry| {
                (
                    entry.file_id.unwrap().to_string(),
                    entry.sha256.unwrap().to_string(),
                )
            })
            .collect();
        let attached = effects(stack, Effect::Attached)
            .into_iter()
            .filter(|entry| entry.external);
        let attached = attached.map(|entry| entry.file_id.unwrap().to_string()).collect();
        Belongings { files, attached }
    }

    pub(super) fn store(&self) -> &str {
        &self.store
    }
}
