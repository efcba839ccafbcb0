//! Tokens for service accounts, as Yandex IAM issues them: a JWT signed with PS256 is exchanged for a token that ends.

use crate::{
    app::App,
    context::Context,
    error::ApiError,
    extract::JsonBody,
    ledger::{Effect, Entry},
    options::Options,
    state::now,
};
use anyhow::Context as _;
use axum::{Extension, Json, extract::State, http::StatusCode};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, SecondsFormat};
use parking_lot::Mutex;
use rand::RngExt as _;
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};
use spki::SubjectPublicKeyInfoRef;
use std::{collections::HashMap, sync::Arc};

const AUDIENCE: &str = "https://iam.api.cloud.yandex.net/iam/v1/tokens";
const MAX_JWT_SECONDS: i64 = 3600;
/// Clocks of clients may be ahead by so much.
const LEEWAY_SECONDS: i64 = 60;

#[derive(Debug)]
pub(crate) struct Iam {
    /// PKCS#1 DER, which is what ring verifies with.
    public_key: Vec<u8>,
    key_id: Option<String>,
    service_account_id: Option<String>,
    token_seconds: i64,
    /// Token to the unix second of its end.
    issued: Mutex<HashMap<String, i64>>,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
}

impl Iam {
    /// None without a public key.
    pub(crate) fn from_options(options: &Options) -> anyhow::Result<Option<Self>> {
        let Some(path) = options.iam_public_key.as_ref().filter(|_| options.is_yandex()) else {
            return Ok(None);
        };
        let pem = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let (_, document) =
            spki::Document::from_pem(&pem).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let info = SubjectPublicKeyInfoRef::try_from(document.as_bytes())
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Ok(Some(Self {
            public_key: info.subject_public_key.raw_bytes().to_vec(),
            key_id: options.iam_key_id.clone(),
            service_account_id: options.iam_service_account_id.clone(),
            token_seconds: i64::try_from(options.iam_token_seconds).unwrap_or(i64::MAX),
            issued: Mutex::default(),
        }))
    }

    pub(crate) fn is_valid(&self, token: &str) -> bool {
        self.issued.lock().get(token).is_some_and(|end| *end > now())
    }

    /// Makes every issued token invalid.
    pub(crate) fn revoke(&self) {
        self.issued.lock().clear();
    }

    /// Checks the JWT; says what is wrong with it.
    fn verify(&self, jwt: &str) -> Result<(), &'static str> {
        let (signed, signature) = jwt.rsplit_once('.').ok_or("not a JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
        let header: Header = part(header).ok_or("unreadable header")?;
        if header.alg != "PS256" {
            return Err("the algorithm must be PS256");
        }
        if header.kid.is_none() || (self.key_id.is_some() && header.kid != self.key_id) {
            return Err("unknown key id");
        }
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| "unreadable signature")?;
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &self.public_key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "wrong signature")?;
        self.check(&part(claims).ok_or("unreadable claims")?)
    }

    fn check(&self, claims: &Claims) -> Result<(), &'static str> {
        let now = now();
        if claims.aud != AUDIENCE {
            return Err("wrong audience");
        }
        if self
            .service_account_id
            .as_ref()
            .is_some_and(|id| *id != claims.iss)
        {
            return Err("unknown service account");
        }
        if claims.iat > now + LEEWAY_SECONDS {
            return Err("issued in the future");
        }
        if claims.exp <= now {
            return Err("expired");
        }
        if claims.exp <= claims.iat || claims.exp - claims.iat > MAX_JWT_SECONDS {
            return Err("valid for more than an hour");
        }
        Ok(())
    }

    /// `t1.…` with a signature-like tail of 86 characters, and the unix second of its end.
    fn issue(&self) -> (String, i64) {
        let mut rng = rand::rng();
        let body: [u8; 24] = rng.random();
        let tail: [u8; 64] = rng.random();
        let token = format!(
            "t1.{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(body),
            BASE64_URL_SAFE_NO_PAD.encode(tail)
        );
        let end = now().saturating_add(self.token_seconds);
        self.issued.lock().insert(token.clone(), end);
        (token, end)
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[derive(Debug, Deserialize)]
pub(crate) struct TokenBody {
    jwt: String,
}

pub(crate) async fn create_token(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    JsonBody(body): JsonBody<TokenBody>,
) -> Result<Json<Value>, ApiError> {
    let Some(iam) = &app.iam else {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "No public key is configured: no tokens.",
        ));
    };
    iam.verify(&body.jwt).map_err(|reason| {
        ApiError::new(StatusCode::UNAUTHORIZED, format!("JWT is not accepted: {reason}"))
    })?;
    let (token, end) = iam.issue();
    let expires_at = DateTime::from_timestamp(end, 0).map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
    app.state.lock().ledger.push(
        &context,
        Entry {
            effect: Effect::TokenIssued,
            ..Entry::default()
        },
    );
    Ok(Json(json!({ "iamToken": token, "expiresAt": expires_at })))
}
