//! The authorized key of a service account, and the signed claim that IAM exchanges for a token. No network here.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Duration, Utc};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

/// Whatever the token endpoint's address is.
const AUDIENCE: &str = "https://iam.api.cloud.yandex.net/iam/v1/tokens";
/// The claim is used at once; IAM accepts up to an hour.
const CLAIM_SECONDS: i64 = 600;
/// A clock that is ahead of IAM's must not make the claim one from the future.
const CLOCK_SLACK_SECONDS: i64 = 30;

/// Never quotes the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("is neither the JSON of an authorized key nor its base64")]
    NotJson,
    #[error("lacks id, service_account_id or private_key")]
    Incomplete,
    #[error("its private_key is not an RSA key in PEM")]
    NotRsa,
    #[error("the claim could not be signed")]
    NotSigned,
}

#[derive(Deserialize)]
struct KeyFile {
    id: String,
    service_account_id: String,
    private_key: String,
}

pub(super) struct ServiceAccountKey {
    id: String,
    service_account_id: String,
    pair: RsaKeyPair,
}

impl ServiceAccountKey {
    /// Reads the key file, plain or in base64.
    pub(super) fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let decoded;
        let json = if text.starts_with('{') {
            text.as_bytes()
        } else {
            let compact: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
            decoded = Zeroizing::new(
                STANDARD
                    .decode(compact.as_bytes())
                    .map_err(|_| KeyError::NotJson)?,
            );
            decoded.as_slice()
        };
        let file: KeyFile = serde_json::from_slice(json).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => KeyError::Incomplete,
            _ => KeyError::NotJson,
        })?;
        let private_key = Zeroizing::new(file.private_key);
        if file.id.is_empty() || file.service_account_id.is_empty() {
            return Err(KeyError::Incomplete);
        }
        let pair = key_pair(&private_key).ok_or(KeyError::NotRsa)?;
        Ok(Self {
            id: file.id,
            service_account_id: file.service_account_id,
            pair,
        })
    }

    /// A JWT that proves possession of the key.
    pub(super) fn claim(&self, now: DateTime<Utc>) -> Result<Zeroizing<String>, KeyError> {
        let issued = now - Duration::seconds(CLOCK_SLACK_SECONDS);
        let header = json!({"typ": "JWT", "alg": "PS256", "kid": self.id});
        let claims = json!({
            "iss": self.service_account_id,
            "aud": AUDIENCE,
            "iat": issued.timestamp(),
            "exp": issued.timestamp() + CLAIM_SECONDS,
        });
        let encode = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| KeyError::NotSigned)?;
        Ok(Zeroizing::new(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountKey")
            .field("id", &self.id)
            .field("service_account_id", &self.service_account_id)
            .finish_non_exhaustive()
    }
}

/// Yandex puts a line of warning before the PEM; what is before `-----BEGIN` does not count.
fn key_pair(text: &str) -> Option<RsaKeyPair> {
    let (_, pem) = text.split_once("-----BEGIN ")?;
    let (label, rest) = pem.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
    match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der).ok(),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{KeyPair, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    /// Made for these tests, and used nowhere else.
    const KEY: &str = include_str!("../../tests/it/service-account-key.json");

    fn part(text: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn the_claim_is_what_iam_asks_for() {
        let key = ServiceAccountKey::from_text(KEY).unwrap();
        let now = Utc::now();
        let claim = key.claim(now).unwrap();
        let (signed, signature) = claim.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(
            part(header),
            json!({"typ": "JWT", "alg": "PS256", "kid": "ajeb4canarykeyid0000"})
        );
        let claims = part(claims);
        assert_eq!(claims["iss"], "ajeg3serviceaccount0");
        assert_eq!(claims["aud"], AUDIENCE);
        let (issued, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert!(issued <= now.timestamp() && expires > now.timestamp() && expires - issued <= 3600);
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
    }

    #[test]
    fn every_form_of_the_key_is_read() {
        let base64 = STANDARD.encode(KEY);
        let (first, second) = base64.split_at(76);
        assert!(ServiceAccountKey::from_text(&format!("{first}\n{second}\n")).is_ok());
        let mut plain: Value = serde_json::from_str(KEY).unwrap();
        let warned = plain["private_key"].as_str().unwrap().to_owned();
        assert!(warned.starts_with("PLEASE DO NOT REMOVE THIS LINE!"));
        plain["private_key"] = json!(&warned[warned.find("-----BEGIN").unwrap()..]);
        assert!(ServiceAccountKey::from_text(&plain.to_string()).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_key_is_named_and_not_quoted() {
        let with = |name: &str, value: Value| {
            let mut file: Value = serde_json::from_str(KEY).unwrap();
            file[name] = value;
            ServiceAccountKey::from_text(&file.to_string()).unwrap_err()
        };
        assert_eq!(
            ServiceAccountKey::from_text("canary").unwrap_err(),
            KeyError::NotJson
        );
        assert_eq!(ServiceAccountKey::from_text("").unwrap_err(), KeyError::NotJson);
        assert_eq!(
            ServiceAccountKey::from_text("{}").unwrap_err(),
            KeyError::Incomplete
        );
        assert_eq!(with("id", json!("")), KeyError::Incomplete);
        assert_eq!(with("private_key", json!("canary")), KeyError::NotRsa);
        let printed = format!("{:?}", ServiceAccountKey::from_text(KEY).unwrap());
        assert!(
            !printed.contains("PRIVATE") && !printed.contains("pair"),
            "{printed}"
        );
    }
}
