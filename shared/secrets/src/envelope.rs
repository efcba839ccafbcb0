//! The two forms in the database: `{"v":2,"kid":"…","nonce":"…","ct":"…"}` (base64), which this program writes, and
//! `{"v":1,"alg":"fernet-sha256","token":"…"}`, which its predecessor wrote.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::SecretsError;

/// An envelope taken apart. Nothing in it has been checked against a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sealed {
    Current {
        /// Id of the key.
        kid: String,
        nonce: [u8; 24],
        /// With the tag at its end.
        ciphertext: Vec<u8>,
    },
    Legacy {
        token: String,
    },
}

impl Sealed {
    /// # Errors
    /// [`SecretsError::Malformed`], [`SecretsError::UnknownVersion`].
    pub(crate) fn from_value(value: &Value) -> Result<Self, SecretsError> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let decoded = |name: &str| STANDARD.decode(text(name)?).ok();
        match value.get("v") {
            Some(version) if version == 2 => {
                let kid = text("kid")
                    .ok_or(SecretsError::Malformed("it has no kid"))?
                    .to_owned();
                let nonce = decoded("nonce").and_then(|nonce| nonce.try_into().ok());
                let nonce = nonce.ok_or(SecretsError::Malformed("its nonce is not 24 bytes of base64"))?;
                let ciphertext = decoded("ct").ok_or(SecretsError::Malformed("its ct is not base64"))?;
                Ok(Self::Current {
                    kid,
                    nonce,
                    ciphertext,
                })
            }
            Some(version) if version == 1 => {
                if text("alg") != Some("fernet-sha256") {
                    return Err(SecretsError::Malformed("its alg is not fernet-sha256"));
                }
                let token = text("token").ok_or(SecretsError::Malformed("it has no token"))?;
                Ok(Self::Legacy {
                    token: token.to_owned(),
                })
            }
            Some(version) => Err(SecretsError::UnknownVersion(
                version.to_string().chars().take(20).collect(),
            )),
            None => Err(SecretsError::Malformed("it has no version")),
        }
    }

    pub(crate) fn current_to_value(kid: &str, nonce: &[u8], ciphertext: &[u8]) -> Value {
        json!({"v": 2, "kid": kid, "nonce": STANDARD.encode(nonce), "ct": STANDARD.encode(ciphertext)})
    }
}
