//! How a file is cut into chunks, and whose strategy counts.

use serde::{Deserialize, Serialize};
use serde_json::json;

/// A `chunking_strategy` as callers give it. Two forms are the providers' own, `{"type":"auto"}` and
/// `{"type":"static","static":{"max_chunk_size_tokens":800,"chunk_overlap_tokens":400}}`; the third counts characters,
/// `{"type":"recursive","chunk_size":1000,"chunk_overlap":200}`, and is sent as tokens, see [`sent`](Self::sent).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChunkingStrategy {
    /// The provider's choice.
    Auto {},
    /// Fixed sizes, in tokens.
    Static { r#static: StaticChunking },
    /// Sizes in characters, as text splitters and the former service have them.
    Recursive { chunk_size: u32, chunk_overlap: u32 },
}

/// So many characters are taken for a token: about what tokenizers make of English prose.
const CHARACTERS_PER_TOKEN: u32 = 4;

/// Sizes in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticChunking {
    pub max_chunk_size_tokens: u32,
    pub chunk_overlap_tokens: u32,
}

/// Which rule a strategy breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChunking {
    #[error("not a chunking strategy: {0}")]
    Shape(String),
    #[error("max_chunk_size_tokens is {0}, it must be between 100 and 4096")]
    Size(u32),
    #[error("chunk_overlap_tokens is {overlap}, it must not exceed half of max_chunk_size_tokens ({half})")]
    Overlap { overlap: u32, half: u32 },
    #[error("chunk_size is {0} characters, it must be between {min} and {max}", min = 100 * CHARACTERS_PER_TOKEN,
        max = 4096 * CHARACTERS_PER_TOKEN)]
    Characters(u32),
    #[error("chunk_overlap is {overlap} characters, it must not exceed half of chunk_size ({half})")]
    CharactersOverlap { overlap: u32, half: u32 },
}

impl ChunkingStrategy {
    pub const AUTO: Self = Self::Auto {};

    /// Sizes in tokens; not checked, see [`validate`](Self::validate).
    pub const fn fixed(max_chunk_size_tokens: u32, chunk_overlap_tokens: u32) -> Self {
        Self::Static {
            r#static: StaticChunking {
                max_chunk_size_tokens,
                chunk_overlap_tokens,
            },
        }
    }

    /// As it is sent to a provider: sizes in characters become tokens, four characters each, rounded up.
    ///
    /// The overlap stays within half of the size, which is what providers take.
    #[must_use]
    pub const fn sent(self) -> Self {
        match self {
            Self::Recursive {
                chunk_size,
                chunk_overlap,
            } => {
                let size = chunk_size.div_ceil(CHARACTERS_PER_TOKEN);
                let overlap = chunk_overlap.div_ceil(CHARACTERS_PER_TOKEN);
                Self::fixed(size, if overlap > size / 2 { size / 2 } else { overlap })
            }
            known => known,
        }
    }

    /// As JSON, in the form that it was given.
    pub fn to_value(self) -> serde_json::Value {
        match self {
            Self::Auto {} => json!({"type": "auto"}),
            Self::Static { r#static: sizes } => json!({
                "type": "static",
                "static": {
                    "max_chunk_size_tokens": sizes.max_chunk_size_tokens,
                    "chunk_overlap_tokens": sizes.chunk_overlap_tokens,
                },
            }),
            Self::Recursive {
                chunk_size,
                chunk_overlap,
            } => json!({"type": "recursive", "chunk_size": chunk_size, "chunk_overlap": chunk_overlap}),
        }
    }

    /// Reads and validates any of the forms.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, InvalidChunking> {
        let strategy = Self::deserialize(value).map_err(|error| InvalidChunking::Shape(error.to_string()))?;
        strategy.validate()?;
        Ok(strategy)
    }

    /// The rules of the OpenAI protocol, which every provider here shares; in characters where the sizes are.
    pub const fn validate(&self) -> Result<(), InvalidChunking> {
        let StaticChunking {
            max_chunk_size_tokens,
            chunk_overlap_tokens,
        } = match *self {
            Self::Auto {} => return Ok(()),
            Self::Static { r#static: sizes } => sizes,
            Self::Recursive {
                chunk_size,
                chunk_overlap,
            } => return validate_characters(chunk_size, chunk_overlap),
        };
        if max_chunk_size_tokens < 100 || max_chunk_size_tokens > 4096 {
            return Err(InvalidChunking::Size(max_chunk_size_tokens));
        }
        let half = max_chunk_size_tokens / 2;
        if chunk_overlap_tokens > half {
            return Err(InvalidChunking::Overlap {
                overlap: chunk_overlap_tokens,
                half,
            });
        }
        Ok(())
    }

    /// The link's strategy, else the file's, else the index's (R-B2, R-10.2), as it is sent; `None` leaves it to the provider.
    pub fn effective(link: Option<Self>, file: Option<Self>, index: Option<Self>) -> Option<Self> {
        link.or(file).or(index).map(Self::sent)
    }
}

const fn validate_characters(size: u32, overlap: u32) -> Result<(), InvalidChunking> {
    if size < 100 * CHARACTERS_PER_TOKEN || size > 4096 * CHARACTERS_PER_TOKEN {
        return Err(InvalidChunking::Characters(size));
    }
    let half = size / 2;
    if overlap > half {
        return Err(InvalidChunking::CharactersOverlap { overlap, half });
    }
    Ok(())
}

/// What a provider did with a strategy that it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkingProof {
    /// It reports what was asked for.
    Matches,
    /// It reports another strategy, or said at once that it would not take ours.
    Differs,
    /// Nothing was asked for, nothing is reported, or what is reported can't be compared: that is no difference.
    Unknown,
}

impl ChunkingProof {
    /// Compares what was asked for with what the provider reports. `taken`: what it answered to the attach itself, where it
    /// answers that.
    ///
    /// `auto` is the provider's choice, which some report as the sizes that it came to; and `other` is what providers call a
    /// strategy that they don't know any more.
    pub fn of(
        asked: Option<ChunkingStrategy>,
        reported: Option<&serde_json::Value>,
        taken: Option<bool>,
    ) -> Self {
        let Some(asked) = asked else { return Self::Unknown };
        if taken == Some(false) {
            return Self::Differs;
        }
        let reported = reported.and_then(|value| ChunkingStrategy::deserialize(value).ok());
        match reported {
            Some(reported) if reported == asked => Self::Matches,
            Some(_) if asked != ChunkingStrategy::AUTO => Self::Differs,
            _ => Self::Unknown,
        }
    }

    /// `None`: not known.
    pub const fn matches(self) -> Option<bool> {
        match self {
            Self::Matches => Some(true),
            Self::Differs => Some(false),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_openais() {
        let strategy = ChunkingStrategy::fixed(800, 400);
        let wire =
            json!({"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}});
        assert_eq!(serde_json::to_value(strategy).unwrap(), wire);
        assert_eq!(strategy.to_value(), wire);
        assert_eq!(ChunkingStrategy::from_json(&wire), Ok(strategy));
        let auto = json!({"type": "auto"});
        assert_eq!(serde_json::to_value(ChunkingStrategy::AUTO).unwrap(), auto);
        assert_eq!(ChunkingStrategy::AUTO.to_value(), auto);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        for (size, overlap, ok) in [
            (100, 0, true),
            (4096, 2048, true),
            (99, 0, false),
            (4097, 0, false),
            (101, 51, false),
        ] {
            assert_eq!(
                ChunkingStrategy::fixed(size, overlap).validate().is_ok(),
                ok,
                "{size}/{overlap}"
            );
        }
    }

    #[test]
    fn characters_are_sent_as_tokens() {
        let recursive = |chunk_size, chunk_overlap| ChunkingStrategy::Recursive {
            chunk_size,
            chunk_overlap,
        };
        let asked = json!({"type": "recursive", "chunk_size": 1000, "chunk_overlap": 200});
        assert_eq!(ChunkingStrategy::from_json(&asked), Ok(recursive(1000, 200)));
        assert_eq!(recursive(1000, 200).to_value(), asked);
        assert_eq!(serde_json::to_value(recursive(1000, 200)).unwrap(), asked);
        for (size, overlap, tokens) in [
            (1000, 200, Some((250, 50))),
            (1001, 201, Some((251, 51))),
            (400, 0, Some((100, 0))),
            (16_384, 8192, Some((4096, 2048))),
            // Half of the size rounds to more than half of the tokens.
            (402, 201, Some((101, 50))),
            (399, 0, None),
            (16_385, 0, None),
            (1000, 501, None),
        ] {
            let strategy = recursive(size, overlap);
            assert_eq!(strategy.validate().is_ok(), tokens.is_some(), "{size}/{overlap}");
            if let Some((size, overlap)) = tokens {
                assert_eq!(strategy.sent(), ChunkingStrategy::fixed(size, overlap));
                assert_eq!(strategy.sent().validate(), Ok(()));
                assert_eq!(
                    ChunkingStrategy::effective(None, Some(strategy), None),
                    Some(strategy.sent())
                );
            }
        }
        let fixed = ChunkingStrategy::fixed(800, 400);
        assert_eq!(
            (fixed.sent(), ChunkingStrategy::AUTO.sent()),
            (fixed, ChunkingStrategy::AUTO)
        );
    }

    #[test]
    fn other_shapes_are_refused_with_the_reason() {
        for wrong in [
            json!(null),
            json!("auto"),
            json!({"type": "magic"}),
            json!({"type": "static"}),
            json!({"type": "auto", "size": 1}),
            json!({"type": "recursive", "chunk_size": 1000}),
            json!({"type": "recursive", "chunk_size": 1000.5, "chunk_overlap": 0}),
        ] {
            assert!(
                matches!(
                    ChunkingStrategy::from_json(&wrong),
                    Err(InvalidChunking::Shape(_))
                ),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_nearest_strategy_counts() {
        let (link, file, index) = (
            ChunkingStrategy::fixed(100, 0),
            ChunkingStrategy::fixed(200, 0),
            ChunkingStrategy::AUTO,
        );
        assert_eq!(
            ChunkingStrategy::effective(Some(link), Some(file), Some(index)),
            Some(link)
        );
        assert_eq!(
            ChunkingStrategy::effective(None, Some(file), Some(index)),
            Some(file)
        );
        assert_eq!(ChunkingStrategy::effective(None, None, Some(index)), Some(index));
        assert_eq!(ChunkingStrategy::effective(None, None, None), None);
    }

    #[test]
    fn only_what_can_be_compared_differs() {
        let proof = |asked, reported: &str| {
            let reported: serde_json::Value = serde_json::from_str(reported).unwrap();
            ChunkingProof::of(asked, Some(&reported), None)
        };
        let fixed = Some(ChunkingStrategy::fixed(400, 100));
        let same = r#"{"type":"static","static":{"max_chunk_size_tokens":400,"chunk_overlap_tokens":100}}"#;
        let other_sizes =
            r#"{"type":"static","static":{"max_chunk_size_tokens":800,"chunk_overlap_tokens":400}}"#;
        let (auto, unknown) = (r#"{"type":"auto"}"#, r#"{"type":"other"}"#);
        assert_eq!(proof(fixed, same), ChunkingProof::Matches);
        assert_eq!(proof(fixed, other_sizes), ChunkingProof::Differs);
        assert_eq!(proof(fixed, auto), ChunkingProof::Differs);
        assert_eq!(proof(fixed, unknown), ChunkingProof::Unknown);
        assert_eq!(proof(Some(ChunkingStrategy::AUTO), auto), ChunkingProof::Matches);
        assert_eq!(
            proof(Some(ChunkingStrategy::AUTO), other_sizes),
            ChunkingProof::Unknown
        );
        assert_eq!(proof(None, same), ChunkingProof::Unknown);
        assert_eq!(ChunkingProof::of(fixed, None, None), ChunkingProof::Unknown);
        assert_eq!(
            ChunkingProof::of(fixed, None, Some(false)),
            ChunkingProof::Differs
        );
    }
}
