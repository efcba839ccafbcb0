//! API keys: generation, and the fingerprint that finds them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

/// Lets people and secret scanners recognise our keys.
const PREFIX: &str = "rag_";

/// A fresh key: 256 random bits. It is shown once and stored nowhere.
pub fn new_key() -> SecretString {
    let bits: [u8; 32] = rand::random();
    SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits)))
}

/// SHA-256 of a key as 64 hex digits: how `rag_api_keys` knows it.
pub fn fingerprint(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn keys_are_long_distinct_and_fingerprinted() {
        let (one, other) = (new_key(), new_key());
        assert_eq!(one.expose_secret().len(), PREFIX.len() + 43);
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert_ne!(
            fingerprint(one.expose_secret()),
            fingerprint(other.expose_secret())
        );
        assert_eq!(fingerprint("rag_x").len(), 64);
    }
}
