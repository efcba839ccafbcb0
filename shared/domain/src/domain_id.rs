//! The tenant key that callers send in `X-Domain-Id`. It is opaque, and it is hostile input.

use std::fmt;

use serde::Serialize;

/// 1 to 128 characters, none of them a control character.
///
/// It says nothing about being safe as a folder name: `rag-files` derives a folder from it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DomainId(String);

/// Why a text is no domain id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDomainId {
    #[error("the domain id is empty")]
    Empty,
    #[error("the domain id has more than {} characters", DomainId::MAX_CHARS)]
    TooLong,
    #[error("the domain id has a control character, or begins or ends with white space")]
    Unprintable,
}

impl DomainId {
    /// As many as `rag_indexes.domain_id` holds.
    pub const MAX_CHARS: usize = 128;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DomainId {
    type Error = InvalidDomainId;

    fn try_from(text: String) -> Result<Self, InvalidDomainId> {
        if text.is_empty() {
            return Err(InvalidDomainId::Empty);
        }
        if text.chars().count() > Self::MAX_CHARS {
            return Err(InvalidDomainId::TooLong);
        }
        // MariaDB compares `a` and `a ` as equal (PAD SPACE), so outer white space would let one domain pass for another.
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(InvalidDomainId::Unprintable);
        }
        Ok(Self(text))
    }
}

impl<'de> serde::Deserialize<'de> for DomainId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::try_from(text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainId({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DomainId, InvalidDomainId> {
        DomainId::try_from(text.to_owned())
    }

    #[test]
    fn limits_count_characters_not_bytes() {
        assert!(parse(&"ж".repeat(128)).is_ok());
        assert_eq!(parse(&"ж".repeat(129)), Err(InvalidDomainId::TooLong));
        assert_eq!(parse(""), Err(InvalidDomainId::Empty));
    }

    #[test]
    fn what_the_database_would_confuse_is_refused() {
        assert_eq!(parse("a "), Err(InvalidDomainId::Unprintable));
        assert_eq!(parse("a\0b"), Err(InvalidDomainId::Unprintable));
        assert_eq!(parse("a\nb"), Err(InvalidDomainId::Unprintable));
        assert!(parse("../../etc").is_ok(), "hostile as a path, fine as a key");
    }

    #[test]
    fn json_is_validated_too() {
        assert!(serde_json::from_str::<DomainId>("\"\"").is_err());
        assert!(serde_json::from_str::<DomainId>("\"0\"").is_ok());
    }
}
