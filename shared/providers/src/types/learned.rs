//! What a connection was seen to do or not to do, beside what its kind of provider documents.
//!
//! A fact is only ever what a server was witnessed doing: an answer that held, or did not hold, what was sent. That a call
//! failed for a moment teaches nothing. The facts live in the connection's row, and go when its host or credentials change.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Something that servers differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ability {
    /// The route for file batches exists.
    FileBatches,
    /// A batch of `files`, each with its own strategy, attaches them.
    BatchFiles,
    /// A single attach is answered before the file is indexed.
    AttachReturnsEarly,
    /// A store is found by its id.
    GetVectorStore,
    /// A file in a store is found by its id.
    GetStoreFile,
    /// A batch is found by its id.
    GetFileBatch,
    /// The files of a store are listed.
    ListStoreFiles,
    /// Search answers the ids of the Files API, or has them among the attributes that the server sets.
    SearchFileIds,
}

impl Ability {
    pub const ALL: &[Self] = &[
        Self::FileBatches,
        Self::BatchFiles,
        Self::AttachReturnsEarly,
        Self::GetVectorStore,
        Self::GetStoreFile,
        Self::GetFileBatch,
        Self::ListStoreFiles,
        Self::SearchFileIds,
    ];

    /// Its name in rows and answers: letters and underscores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FileBatches => "file_batches",
            Self::BatchFiles => "batch_files",
            Self::AttachReturnsEarly => "attach_returns_early",
            Self::GetVectorStore => "get_vector_store",
            Self::GetStoreFile => "get_store_file",
            Self::GetFileBatch => "get_file_batch",
            Self::ListStoreFiles => "list_store_files",
            Self::SearchFileIds => "search_file_ids",
        }
    }
}

/// One fact: what, when, and how it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The connection has the ability.
    pub holds: bool,
    pub seen_at: DateTime<Utc>,
    /// One sentence, without credentials.
    pub how: String,
}

/// Servers are replaced by better versions: what one could not do is tried again after so long.
pub const RELEARN_AFTER: Duration = Duration::from_hours(7 * 24);

/// All facts of one connection, by [`Ability::as_str`]. Those of other versions of this program are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LearnedCapabilities {
    facts: BTreeMap<String, Fact>,
}

impl LearnedCapabilities {
    /// Reads what a row holds. What can't be read was written by another version, and counts for nothing.
    pub fn from_value(value: Option<&serde_json::Value>) -> Self {
        let facts = value.and_then(serde_json::Value::as_object).into_iter().flatten();
        let facts = facts.filter_map(|(name, fact)| Some((name.clone(), Fact::deserialize(fact).ok()?)));
        Self {
            facts: facts.collect(),
        }
    }

    pub fn fact(&self, ability: Ability) -> Option<&Fact> {
        self.facts.get(ability.as_str())
    }

    /// Whether the connection has the ability, as far as it was seen; a lack that was seen long ago counts for nothing.
    pub fn holds(&self, ability: Ability, now: DateTime<Utc>) -> Option<bool> {
        let fact = self.fact(ability)?;
        let age = (now - fact.seen_at).to_std().unwrap_or_default();
        (fact.holds || age < RELEARN_AFTER).then_some(fact.holds)
    }

    /// Takes a fact in.
    pub fn insert(&mut self, ability: Ability, fact: Fact) {
        self.facts.insert(ability.as_str().to_owned(), fact);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lacks_are_forgotten_in_time_and_abilities_are_not() {
        let now = Utc::now();
        let mut learned = LearnedCapabilities::default();
        for (ability, holds, age) in [
            (Ability::BatchFiles, false, Duration::from_hours(1)),
            (Ability::FileBatches, false, RELEARN_AFTER),
            (Ability::GetVectorStore, true, RELEARN_AFTER * 10),
        ] {
            let (seen_at, how) = (now - age, "a test".to_owned());
            learned.insert(ability, Fact { holds, seen_at, how });
        }
        assert_eq!(learned.holds(Ability::BatchFiles, now), Some(false));
        assert_eq!(learned.holds(Ability::FileBatches, now), None);
        assert_eq!(learned.holds(Ability::GetVectorStore, now), Some(true));
        assert_eq!(learned.holds(Ability::GetStoreFile, now), None);
        let row = serde_json::to_value(&learned).unwrap();
        assert_eq!(LearnedCapabilities::from_value(Some(&row)), learned);
    }

    #[test]
    fn what_another_version_wrote_spoils_nothing() {
        let row = json!({
            "batch_files": {"holds": false, "seen_at": "2026-11-28T00:00:00Z", "how": "h"},
            "telepathy": {"holds": true, "seen_at": "2026-11-28T00:00:00Z", "how": "h"},
            "file_batches": "garbled",
        });
        let learned = LearnedCapabilities::from_value(Some(&row));
        assert!(learned.fact(Ability::BatchFiles).is_some_and(|fact| !fact.holds));
        assert_eq!(learned.fact(Ability::FileBatches), None);
        for ability in Ability::ALL {
            assert!(
                ability
                    .as_str()
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
            );
        }
    }
}
