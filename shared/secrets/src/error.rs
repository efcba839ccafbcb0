//! What can be wrong with keys and envelopes. No variant holds a key or a plaintext.

/// The setting does not make a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("no key is given")]
    Empty,
    /// Counted from 1.
    #[error("key {number} is shorter than {minimum} characters")]
    TooShort { number: usize, minimum: usize },
    #[error("key {number} is given twice")]
    Repeated { number: usize },
}

/// An envelope does not open, or a plaintext does not seal. Fit for `last_error`: it names the cause and nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// Not an envelope, or a damaged one.
    #[error("the sealed value is damaged: {0}")]
    Malformed(&'static str),
    /// A version this program does not know, from a newer one perhaps.
    #[error("the sealed value has the unknown version {0}")]
    UnknownVersion(String),
    /// Sealed with a key that is not (any more) in the keyring.
    #[error("the value was sealed with key {kid}, which PROVIDER_SECRETS_KEY does not hold")]
    UnknownKey { kid: String },
    /// The key is right and the value is not: changed, or moved here from another row or column.
    #[error("the sealed value was changed, or belongs to another provider or column")]
    NotGenuine,
    /// An envelope of the old service that none of the keys opens. It does not tell a wrong key from a changed value.
    #[error("no key in PROVIDER_SECRETS_KEY opens this value of the old service")]
    LegacyNotOpened,
    /// The plaintext is no JSON although it was asked for as such.
    #[error("the opened value is not JSON")]
    NotJson,
    /// The operating system gave no random bytes, or the plaintext is beyond all size.
    #[error("the value could not be sealed")]
    NotSealed,
}
