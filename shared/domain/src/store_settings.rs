//! The settings of a vector store that follow those of its index, and how they differ from what the store was last given.
//!
//! Three states meet: what the caller wants (the index's row), what the store was last given, and what the provider shows. What
//! the caller changed since the store was last given anything is the caller's newer wish: a build pushes it, and no sync
//! takes it back. What others change at the provider meanwhile is a sync's matter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The keys in a store's metadata by which it is known as ours, and of which index; no caller's pair takes their place.
pub const STORE_TAGS: [&str; 2] = ["rag_intent", "rag_index_id"];
/// OpenAI takes 16 pairs; two are our own.
const MAX_OWN_PAIRS: usize = 14;
const MAX_KEY_CHARS: usize = 64;
const MAX_VALUE_CHARS: usize = 512;

/// What a store has of its index's settings. (A description goes with the creation alone: the protocol knows no change of it.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreSettings {
    pub name: String,
    /// Days after the last use; `None`: never.
    pub expires_after_days: Option<u32>,
    pub metadata: BTreeMap<String, String>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    Name,
    ExpiresAfter,
    Metadata,
}

impl Setting {
    pub const ALL: [Self; 3] = [Self::Name, Self::ExpiresAfter, Self::Metadata];
}

impl StoreSettings {
    /// As the index wants them.
    pub fn of(name: &str, expires_after: Option<&Value>, metadata: Option<&Value>) -> Self {
        Self {
            name: name.to_owned(),
            expires_after_days: days(expires_after),
            metadata: pairs(metadata),
        }
    }

    /// Which of them are not as they were last given.
    pub fn changed_since(&self, given: &Self) -> Vec<Setting> {
        Setting::ALL
            .into_iter()
            .filter(|setting| self.value(*setting) != given.value(*setting))
            .collect()
    }

    /// One of them as JSON, for people.
    pub fn value(&self, setting: Setting) -> Value {
        match setting {
            Setting::Name => json!(self.name),
            Setting::ExpiresAfter => match self.expires_after_days {
                Some(days) => json!({"anchor": "last_active_at", "days": days}),
                None => Value::Null,
            },
            Setting::Metadata => json!(self.metadata),
        }
    }

    /// Takes one of them over.
    pub fn take(&mut self, setting: Setting, from: &Self) {
        match setting {
            Setting::Name => self.name.clone_from(&from.name),
            Setting::ExpiresAfter => self.expires_after_days = from.expires_after_days,
            Setting::Metadata => self.metadata.clone_from(&from.metadata),
        }
    }

    /// The store's pairs with ours in them: what others keep there stays, what was ours and is wanted no more goes.
    pub fn merge_metadata(&self, given: Option<&Self>, there: &Map<String, Value>) -> Map<String, Value> {
        let mut merged = there.clone();
        for key in given.into_iter().flat_map(|given| given.metadata.keys()) {
            if !self.metadata.contains_key(key) {
                merged.remove(key);
            }
        }
        for (key, value) in &self.metadata {
            merged.insert(key.clone(), json!(value));
        }
        merged
    }
}

fn days(expires_after: Option<&Value>) -> Option<u32> {
    u32::try_from(expires_after?.get("days")?.as_u64()?).ok()
}

/// What of an index's metadata a provider takes: short texts, numbers and booleans.
fn pairs(metadata: Option<&Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(pairs)) = metadata else {
        return BTreeMap::new();
    };
    let texts = pairs.iter().filter_map(|(key, value)| match value {
        Value::String(text) => Some((key.clone(), text.clone())),
        Value::Bool(_) | Value::Number(_) => Some((key.clone(), value.to_string())),
        _ => None,
    });
    texts
        .filter(|(key, text)| key.chars().count() <= MAX_KEY_CHARS && text.chars().count() <= MAX_VALUE_CHARS)
        .filter(|(key, _)| !STORE_TAGS.contains(&key.as_str()))
        .take(MAX_OWN_PAIRS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(metadata: &Value) -> StoreSettings {
        let expiry = json!({"anchor": "last_active_at", "days": 3});
        StoreSettings::of("n", Some(&expiry), Some(metadata))
    }

    #[test]
    fn only_what_the_provider_takes_is_passed_on() {
        let metadata = json!({"team": "ops", "level": 3, "provider_payload": {"id": "vs"}, "long": "x".repeat(513), "none": null, "rag_intent": "mine"});
        let own = settings(&metadata);
        assert_eq!(own.value(Setting::Metadata), json!({"level": "3", "team": "ops"}));
        assert_eq!(own.expires_after_days, Some(3));
    }

    #[test]
    fn what_the_caller_changed_is_told() {
        let given = settings(&json!({"team": "ops"}));
        assert!(given.changed_since(&given).is_empty());
        let wanted = StoreSettings {
            name: "other".to_owned(),
            expires_after_days: None,
            ..given.clone()
        };
        assert_eq!(
            wanted.changed_since(&given),
            [Setting::Name, Setting::ExpiresAfter]
        );
        let mut taken = given;
        taken.take(Setting::Name, &wanted);
        assert_eq!(wanted.changed_since(&taken), [Setting::ExpiresAfter]);
    }

    #[test]
    fn pairs_of_others_stay_and_ours_that_are_wanted_no_more_go() {
        let given = settings(&json!({"team": "ops", "old": "1"}));
        let wanted = settings(&json!({"team": "dev"}));
        let there = json!({"team": "ops", "old": "1", "provider_id": 7, "rag_index_id": "i"});
        let merged = wanted.merge_metadata(Some(&given), there.as_object().unwrap());
        assert_eq!(
            Value::Object(merged),
            json!({"team": "dev", "provider_id": 7, "rag_index_id": "i"})
        );
    }
}
