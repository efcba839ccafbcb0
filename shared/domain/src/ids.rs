//! Newtype ids of our own entities: uuid v4, written as hyphenated lower-case text everywhere (database, JSON, URLs).
//!
//! Ids that a provider gave are plain strings named `external_…_id`, because their shape is the provider's business.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not a uuid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid id (a uuid is expected)")]
pub struct InvalidId(pub String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh random id.
            #[expect(clippy::new_without_default, reason = "an id drawn at random is no default value")]
            pub fn new() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Takes the hyphenated form only, so that one entity has one spelling.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match Uuid::try_parse(text) {
                    Ok(id) if text.len() == 36 => Ok(Self(id)),
                    _ => Err(InvalidId(text.chars().take(64).collect())),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
    };
}

id!(
    /// A knowledge base: `rag_indexes.id`.
    IndexId
);
id!(
    /// A document: `rag_files.id`.
    FileId
);
id!(
    /// A row of `rag_provider_file_uploads`.
    UploadId
);
id!(
    /// A row of `rag_index_attachments`.
    AttachmentId
);
id!(
    /// A row of `rag_provider_intents`; of a store it is also the tag that the store carries at the provider.
    IntentId
);
id!(
    /// A row of `rag_api_keys`.
    ApiKeyId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_per_id() {
        let id = IndexId::new();
        assert_eq!(id.to_string().parse::<IndexId>(), Ok(id));
        assert!(id.to_string().replace('-', "").parse::<IndexId>().is_err());
        assert!(format!("{{{id}}}").parse::<IndexId>().is_err());
        assert!("".parse::<IndexId>().is_err());
    }
}
