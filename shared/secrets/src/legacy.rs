//! Opening what the old service sealed: Fernet (<https://github.com/fernet/spec>) under the SHA-256 of the configured text.
//! There is no sealing here, and no check of the token's age: a stored credential does not expire.

use aes::Aes128;
use aes::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::Key;

const VERSION: u8 = 0x80;
/// Version, time, initialisation vector.
const HEAD_BYTES: usize = 1 + 8 + 16;
const TAG_BYTES: usize = 32;

/// `None`: not a token, or not one of this key.
pub(crate) fn open(key: &Key, token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let token = URL_SAFE.decode(token.trim()).ok()?;
    let (signed, tag) = token.split_at_checked(token.len().checked_sub(TAG_BYTES)?)?;
    let (signing_key, encryption_key) = key.bytes().split_at(16);
    let mut mac = Hmac::<Sha256>::new_from_slice(signing_key).ok()?;
    mac.update(signed);
    mac.verify_slice(tag).ok()?;
    let (head, ciphertext) = signed.split_at_checked(HEAD_BYTES)?;
    let [VERSION, _, _, _, _, _, _, _, _, iv @ ..] = head else {
        return None;
    };
    let decryptor = cbc::Decryptor::<Aes128>::new_from_slices(encryption_key, iv).ok()?;
    decryptor
        .decrypt_padded_vec::<Pkcs7>(ciphertext)
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the reference implementation, Python's `cryptography`.
    const TOKENS: [(&str, &str); 2] = [
        (
            "gAAAAABo53gAJOcMYjCG-PSRLswWexWKWUwX6WunvNskrifkA-ZswvXowDhl2dmp94Tnlhndk3hFZQYAiKthD4iuhWsg24iKSQQLvRwAMY5irrWZcFMruJQ=",
            r#"{"api_key":"sk-legacy"}"#,
        ),
        // A whole block: the padding is a block of its own.
        (
            "gAAAAABo53gABMsmHPQQBAtIKpn2anuv0iXYvir28_IM33BXNDKTF_dAVXstxQPNI4RA56uWzM4RlOkMDmp53sgk9BGtBeOqYQnKVyvAHsiyB9iBpWph4Qs=",
            r#"{"api_key":"0123"#,
        ),
    ];

    #[test]
    fn tokens_of_the_reference_implementation_open() {
        let key = Key::from_text("correct horse battery staple");
        for (token, plaintext) in TOKENS {
            assert_eq!(open(&key, token).unwrap().as_slice(), plaintext.as_bytes());
            assert!(open(&Key::from_text("another key, long enough"), token).is_none());
        }
    }

    #[test]
    fn no_changed_or_cut_token_opens() {
        let key = Key::from_text("correct horse battery staple");
        let token = URL_SAFE.decode(TOKENS[0].0).unwrap();
        for byte in 0..token.len() {
            let mut changed = token.clone();
            changed[byte] ^= 1;
            assert!(open(&key, &URL_SAFE.encode(&changed)).is_none(), "byte {byte}");
            assert!(
                open(&key, &URL_SAFE.encode(&token[..byte])).is_none(),
                "cut to {byte}"
            );
        }
    }
}
