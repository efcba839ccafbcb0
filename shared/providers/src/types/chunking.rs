//! How a provider says that it has cut a file. What is asked of it, and the rules for that, are the domain's.

use rag_domain::ChunkingStrategy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A strategy in effect. What is neither `auto` nor `static` (`{"type":"other"}` for files indexed before strategies existed)
/// is kept as it came.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportedStrategy {
    /// Not checked against the rules: a provider may have others.
    Known(ChunkingStrategy),
    /// A form this version does not know.
    Other(Value),
}

impl ReportedStrategy {
    /// The wire form.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Known(strategy) => strategy.to_value(),
            Self::Other(value) => value.clone(),
        }
    }

    /// Reads any JSON, and overlooks fields beyond those of the known forms.
    pub fn from_value(value: Value) -> Self {
        let known = match value.get("type").and_then(Value::as_str) {
            Some("auto") => Some(ChunkingStrategy::AUTO),
            Some("static") => fixed(&value),
            _ => None,
        };
        known.map_or(Self::Other(value), Self::Known)
    }
}

fn fixed(value: &Value) -> Option<ChunkingStrategy> {
    let tokens = |name| {
        let number = value.get("static")?.get(name)?.as_u64()?;
        u32::try_from(number).ok()
    };
    Some(ChunkingStrategy::fixed(
        tokens("max_chunk_size_tokens")?,
        tokens("chunk_overlap_tokens")?,
    ))
}

impl PartialEq<ChunkingStrategy> for ReportedStrategy {
    fn eq(&self, asked: &ChunkingStrategy) -> bool {
        matches!(self, Self::Known(strategy) if strategy == asked)
    }
}

impl Serialize for ReportedStrategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ReportedStrategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_value(Value::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_wire_form_survives_a_round_trip() {
        for value in [
            json!({"type": "auto"}),
            json!({"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}),
            json!({"type": "other"}),
            json!({"type": "semantic", "threshold": 0.5}),
        ] {
            assert_eq!(ReportedStrategy::from_value(value.clone()).to_value(), value);
        }
    }

    #[test]
    fn what_was_asked_for_is_recognized() {
        let reported = json!({"type": "static", "valid": true,
            "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400, "unit": "token"}});
        let reported = ReportedStrategy::from_value(reported);
        assert!(reported == ChunkingStrategy::fixed(800, 400));
        assert!(reported != ChunkingStrategy::fixed(800, 0) && reported != ChunkingStrategy::AUTO);
        assert!(ReportedStrategy::from_value(json!({"type": "other"})) != ChunkingStrategy::AUTO);
    }

    #[test]
    fn a_damaged_static_form_is_kept_and_not_guessed() {
        let value = json!({"type": "static", "max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400});
        assert_eq!(
            ReportedStrategy::from_value(value.clone()),
            ReportedStrategy::Other(value)
        );
    }
}
