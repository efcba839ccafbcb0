//! How a provider cuts a file into chunks: the wire form only. The rules (ranges, overlap) are the domain's.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// `{"type":"auto"}` or `{"type":"static","static":{"max_chunk_size_tokens":800,"chunk_overlap_tokens":400}}`; anything else
/// (`{"type":"other"}` for files indexed before strategies existed) is kept as it came.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkingStrategy {
    /// The provider's own choice (800/400 at OpenAI).
    Auto,
    Static {
        max_chunk_size_tokens: u32,
        chunk_overlap_tokens: u32,
    },
    /// A form this version does not know. Sending it is the caller's decision.
    Other(Value),
}

impl ChunkingStrategy {
    /// The wire form.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Auto => json!({"type": "auto"}),
            Self::Static {
                max_chunk_size_tokens,
                chunk_overlap_tokens,
            } => json!({
                "type": "static",
                "static": {
                    "max_chunk_size_tokens": max_chunk_size_tokens,
                    "chunk_overlap_tokens": chunk_overlap_tokens,
                },
            }),
            Self::Other(value) => value.clone(),
        }
    }

    /// Reads any JSON; what is not exactly `auto` or `static` becomes [`ChunkingStrategy::Other`].
    pub fn from_value(value: Value) -> Self {
        match value.get("type").and_then(Value::as_str) {
            Some("auto") => Self::Auto,
            Some("static") => {
                let tokens = |name| {
                    let number = value.get("static")?.get(name)?.as_u64()?;
                    u32::try_from(number).ok()
                };
                match (tokens("max_chunk_size_tokens"), tokens("chunk_overlap_tokens")) {
                    (Some(max_chunk_size_tokens), Some(chunk_overlap_tokens)) => Self::Static {
                        max_chunk_size_tokens,
                        chunk_overlap_tokens,
                    },
                    _ => Self::Other(value),
                }
            }
            _ => Self::Other(value),
        }
    }
}

impl Serialize for ChunkingStrategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ChunkingStrategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_value(Value::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_survives_a_round_trip() {
        for value in [
            json!({"type": "auto"}),
            json!({"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}),
            json!({"type": "other"}),
            json!({"type": "semantic", "threshold": 0.5}),
        ] {
            assert_eq!(ChunkingStrategy::from_value(value.clone()).to_value(), value);
        }
    }

    #[test]
    fn a_damaged_static_form_is_kept_and_not_guessed() {
        let value = json!({"type": "static", "max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400});
        assert_eq!(
            ChunkingStrategy::from_value(value.clone()),
            ChunkingStrategy::Other(value)
        );
    }
}
