//! The one way in which statuses are written as text and read back.

/// A row holds a status that this program does not know: written by a newer version, or by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a known {what}")]
pub struct UnknownStatus {
    /// Which status, as words: "indexing status".
    pub what: &'static str,
    /// The text found.
    pub text: String,
}

/// Declares a closed set of statuses with their spelling in database and JSON.
macro_rules! status {
    ($(#[$doc:meta])* $name:ident ($what:literal) { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every status, in the order of a usual life.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in database and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::status::UnknownStatus;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                match text.as_str() {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::status::UnknownStatus { what: $what, text }),
                }
            }
        }
    };
}

pub(crate) use status;
