//! The keys of one deployment: the first seals, all open.

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::envelope::Sealed;
use crate::error::{KeyringError, SecretsError};
use crate::key::Key;
use crate::legacy;

const MIN_KEY_CHARACTERS: usize = 16;

/// Seals with XChaCha20-Poly1305 under its first key. To change keys, put the new one in front, re-seal every row whose
/// envelope is not [`Keyring::is_current`], and then drop the old one.
#[derive(Debug, Clone)]
pub struct Keyring {
    first: Key,
    others: Vec<Key>,
}

impl Keyring {
    /// Reads `PROVIDER_SECRETS_KEY`: one key, or several separated by commas. A key is any text of at least 16 characters;
    /// spaces around it do not count.
    ///
    /// # Errors
    /// [`KeyringError`]; never quotes the setting.
    pub fn from_setting(setting: &str) -> Result<Self, KeyringError> {
        let texts = setting.split(',').map(str::trim).filter(|text| !text.is_empty());
        let mut keys: Vec<Key> = Vec::new();
        for (index, text) in texts.enumerate() {
            let number = index + 1;
            if text.chars().count() < MIN_KEY_CHARACTERS {
                return Err(KeyringError::TooShort {
                    number,
                    minimum: MIN_KEY_CHARACTERS,
                });
            }
            let key = Key::from_text(text);
            if keys.iter().any(|known| known.bytes() == key.bytes()) {
                return Err(KeyringError::Repeated { number });
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(KeyringError::Empty)?;
        Ok(Self {
            first,
            others: keys.collect(),
        })
    }

    /// The id of the key that seals, fit for logs.
    pub fn current_key_id(&self) -> &str {
        self.first.id()
    }

    /// Seals `plaintext` for one column (`credentials_enc`, say) of one provider's row.
    ///
    /// # Errors
    /// [`SecretsError::NotSealed`] only.
    pub fn seal(&self, provider: &str, column: &str, plaintext: &[u8]) -> Result<Value, SecretsError> {
        let nonce = XNonce::try_generate().map_err(|_| SecretsError::NotSealed)?;
        let payload = Payload {
            msg: plaintext,
            aad: &associated_data(provider, column),
        };
        let ciphertext = cipher(&self.first)
            .encrypt(&nonce, payload)
            .map_err(|_| SecretsError::NotSealed)?;
        Ok(Sealed::current_to_value(self.first.id(), &nonce, &ciphertext))
    }

    /// As [`Keyring::seal`], for a JSON value.
    ///
    /// # Errors
    /// [`SecretsError::NotSealed`] only.
    pub fn seal_json(&self, provider: &str, column: &str, value: &Value) -> Result<Value, SecretsError> {
        self.seal(provider, column, Zeroizing::new(value.to_string()).as_bytes())
    }

    /// Opens an envelope that was sealed for this column of this provider's row, or an envelope of the old service (which
    /// was bound to nothing).
    ///
    /// # Errors
    /// Any [`SecretsError`] but `NotSealed` and `NotJson`.
    pub fn open(
        &self,
        provider: &str,
        column: &str,
        sealed: &Value,
    ) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let (kid, nonce, ciphertext) = match Sealed::from_value(sealed)? {
            Sealed::Current {
                kid,
                nonce,
                ciphertext,
            } => (kid, nonce, ciphertext),
            Sealed::Legacy { token } => {
                let opened = self.keys().find_map(|key| legacy::open(key, &token));
                return opened.ok_or(SecretsError::LegacyNotOpened);
            }
        };
        let mut known = false;
        let aad = associated_data(provider, column);
        for key in self.keys().filter(|key| key.id() == kid) {
            known = true;
            let payload = Payload {
                msg: &ciphertext,
                aad: &aad,
            };
            if let Ok(plaintext) = cipher(key).decrypt(&XNonce::from(nonce), payload) {
                return Ok(Zeroizing::new(plaintext));
            }
        }
        if known {
            return Err(SecretsError::NotGenuine);
        }
        Err(SecretsError::UnknownKey {
            kid: kid.chars().filter(char::is_ascii_alphanumeric).take(16).collect(),
        })
    }

    /// As [`Keyring::open`], for what was sealed as JSON.
    ///
    /// # Errors
    /// As [`Keyring::open`], and [`SecretsError::NotJson`].
    pub fn open_json(&self, provider: &str, column: &str, sealed: &Value) -> Result<Value, SecretsError> {
        let plaintext = self.open(provider, column, sealed)?;
        serde_json::from_slice(&plaintext).map_err(|_| SecretsError::NotJson)
    }

    /// Whether an envelope has today's form and the first key; if not, it should be opened and sealed anew.
    pub fn is_current(&self, sealed: &Value) -> bool {
        matches!(Sealed::from_value(sealed), Ok(Sealed::Current { kid, .. }) if kid == self.first.id())
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

/// What an envelope is bound to. The lengths keep `ab` + `c` apart from `a` + `bc`.
fn associated_data(provider: &str, column: &str) -> Vec<u8> {
    let mut associated_data = b"rag-indexer sealed v2".to_vec();
    for part in [provider, column] {
        associated_data.extend((part.len() as u64).to_be_bytes());
        associated_data.extend(part.as_bytes());
    }
    associated_data
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const OLD: &str = "correct horse battery staple";
    const NEW: &str = "a brand new key of 2026";

    fn ring(setting: &str) -> Keyring {
        Keyring::from_setting(setting).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let ring = ring(NEW);
        let sealed = ring
            .seal_json("openai", "credentials_enc", &json!({"api_key": "canary"}))
            .unwrap();
        assert_eq!(sealed["v"], 2);
        assert!(!sealed.to_string().contains("canary"));
        assert_eq!(
            ring.open_json("openai", "credentials_enc", &sealed).unwrap(),
            json!({"api_key": "canary"})
        );
        for (provider, column) in [
            ("yandex", "credentials_enc"),
            ("openai", "token_enc"),
            ("openaicred", "entials_enc"),
        ] {
            assert_eq!(
                ring.open(provider, column, &sealed).unwrap_err(),
                SecretsError::NotGenuine
            );
        }
        let again = ring
            .seal_json("openai", "credentials_enc", &json!({"api_key": "canary"}))
            .unwrap();
        assert_ne!(sealed["nonce"], again["nonce"]);
    }

    #[test]
    fn keys_rotate() {
        let sealed = ring(OLD).seal("openai", "token_enc", b"secret").unwrap();
        let both = ring(&format!(" {NEW} , {OLD},"));
        assert!(!both.is_current(&sealed));
        assert_eq!(
            both.open("openai", "token_enc", &sealed).unwrap().as_slice(),
            b"secret"
        );
        let resealed = both.seal("openai", "token_enc", b"secret").unwrap();
        assert!(both.is_current(&resealed));
        assert_eq!(
            ring(NEW)
                .open("openai", "token_enc", &resealed)
                .unwrap()
                .as_slice(),
            b"secret"
        );
        let error = ring(NEW).open("openai", "token_enc", &sealed).unwrap_err();
        assert_eq!(
            error,
            SecretsError::UnknownKey {
                kid: ring(OLD).current_key_id().to_owned()
            }
        );
    }

    #[test]
    fn an_envelope_of_the_old_service_opens_and_is_not_current() {
        let token = "gAAAAABo53gAJOcMYjCG-PSRLswWexWKWUwX6WunvNskrifkA-ZswvXowDhl2dmp94Tnlhndk3hFZQYAiKthD4iuhWsg24iKSQQLvRwAMY5irrWZcFMruJQ=";
        let sealed = json!({"v": 1, "alg": "fernet-sha256", "token": token});
        let both = ring(&format!("{NEW},{OLD}"));
        assert_eq!(
            both.open_json("openai", "credentials_enc", &sealed).unwrap(),
            json!({"api_key": "sk-legacy"})
        );
        assert!(!ring(OLD).is_current(&sealed));
        let error = ring(NEW).open("openai", "credentials_enc", &sealed).unwrap_err();
        assert_eq!(error, SecretsError::LegacyNotOpened);
    }

    #[test]
    fn damage_is_named() {
        let ring = ring(NEW);
        let good = ring.seal("openai", "token_enc", b"secret").unwrap();
        let with = |name: &str, value: Value| {
            let mut bad = good.clone();
            bad[name] = value;
            ring.open("openai", "token_enc", &bad).unwrap_err()
        };
        assert_eq!(with("v", json!(3)), SecretsError::UnknownVersion("3".to_owned()));
        assert_eq!(
            with("v", Value::Null),
            SecretsError::UnknownVersion("null".to_owned())
        );
        for (name, value) in [
            ("kid", Value::Null),
            ("nonce", json!("AAAA")),
            ("nonce", json!("?")),
            ("ct", json!("?")),
            ("ct", json!(7)),
            ("v", json!(1)),
        ] {
            assert!(
                matches!(with(name, value.clone()), SecretsError::Malformed(_)),
                "{name} {value}"
            );
        }
        assert_eq!(with("ct", json!("")), SecretsError::NotGenuine);
        for value in [Value::Null, json!([]), json!("text"), json!({})] {
            assert!(ring.open("openai", "token_enc", &value).is_err());
            assert!(!ring.is_current(&value));
        }
        let text = ring.seal("openai", "token_enc", b"no json").unwrap();
        assert_eq!(
            ring.open_json("openai", "token_enc", &text).unwrap_err(),
            SecretsError::NotJson
        );
    }

    #[test]
    fn a_setting_is_checked_and_never_quoted() {
        for (setting, expected) in [
            ("", KeyringError::Empty),
            (" , ", KeyringError::Empty),
            (
                "short",
                KeyringError::TooShort {
                    number: 1,
                    minimum: 16,
                },
            ),
            (
                "correct horse battery staple,short",
                KeyringError::TooShort {
                    number: 2,
                    minimum: 16,
                },
            ),
            (
                "correct horse battery staple,correct horse battery staple",
                KeyringError::Repeated { number: 2 },
            ),
        ] {
            let error = Keyring::from_setting(setting).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("horse"));
        }
        let printed = format!("{:?}", ring(OLD));
        assert!(!printed.contains("horse") && !printed.contains(&hex::encode(Key::from_text(OLD).bytes())));
    }

    proptest! {
        #[test]
        fn any_plaintext_survives(plaintext: Vec<u8>, provider: String, column: String) {
            let ring = ring(NEW);
            let sealed = ring.seal(&provider, &column, &plaintext).unwrap();
            let opened = ring.open(&provider, &column, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), plaintext.as_slice());
        }

        #[test]
        fn no_flipped_bit_goes_unnoticed(plaintext: Vec<u8>, position: prop::sample::Index, bit in 0u8..8) {
            use base64::Engine;
            use base64::engine::general_purpose::STANDARD;
            let ring = ring(NEW);
            let mut sealed = ring.seal("openai", "token_enc", &plaintext).unwrap();
            for field in ["nonce", "ct"] {
                let before = sealed[field].clone();
                let mut bytes = STANDARD.decode(before.as_str().unwrap()).unwrap();
                let at = position.index(bytes.len());
                bytes[at] ^= 1 << bit;
                sealed[field] = json!(STANDARD.encode(bytes));
                prop_assert_eq!(ring.open("openai", "token_enc", &sealed).unwrap_err(), SecretsError::NotGenuine);
                sealed[field] = before;
            }
        }
    }
}
