//! Yandex AI Studio: its defaults, limits, ways to authenticate, MIME rules and quirks. Nothing outside this folder knows them.

mod mime;
mod provider;
mod service_account;
mod token;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use url::Url;

use crate::adapter::{Adapter, AuthMethod};
use crate::connection::{ConnectionConfig, FieldError};
use crate::contract::Provider;
use crate::error::{ErrorKind, ProviderError};
use crate::http::guard::check_base_url;
use crate::http::{ApiKey, Authorizer};
use crate::protocol::{self, HealthProbe, OpenAiClient, Profile};
use crate::types::Capabilities;
use provider::YandexProvider;
use service_account::ServiceAccountKey;
use token::IamTokens;

/// - `api_key`: `{"api_key": "…", "folder_id": "…"}`;
/// - `service_account`: `{"service_account_key": …, "folder_id": "…"}`, the authorized key as the console downloads it: the
///   JSON object, its text, or the text in base64. It is exchanged for IAM tokens.
///
/// `folder_id` is optional and goes out as `OpenAI-Project`, or under the header that `folder_header` names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yandex;

const IAM_URL: &str = "https://iam.api.cloud.yandex.net/iam/v1/tokens";
const MIB: u64 = 1024 * 1024;

/// As documented by Yandex, and cautious where it documents nothing.
fn capabilities() -> Capabilities {
    Capabilities {
        max_batch_files: 100,
        max_create_file_ids: 100,
        max_file_bytes: 128 * MIB,
        max_simple_upload_bytes: 128 * MIB,
        uploads_api: false,
        max_upload_part_bytes: 0,
        batch_per_file_strategy: false,
        cancel_batch: false,
        update_file: false,
        max_concurrent_indexing: Some(10),
        attach_writes_per_minute: None,
        external_file_id_is_store_file: true,
        max_page_items: 100,
        max_file_page_items: 100,
        // A file can't be retrieved until it is indexed, which takes minutes.
        settle_grace: Duration::from_mins(10),
    }
}

impl Adapter for Yandex {
    fn provider_type(&self) -> &'static str {
        "yandex"
    }

    fn default_base_url(&self) -> Option<&'static str> {
        Some("https://ai.api.cloud.yandex.net/v1")
    }

    fn auth_methods(&self) -> &'static [AuthMethod] {
        const OPTIONAL: &[&str] = &["folder_id", "folder_header"];
        &[
            AuthMethod {
                auth_type: "api_key",
                required: &["api_key"],
                optional: OPTIONAL,
            },
            AuthMethod {
                auth_type: "service_account",
                required: &["service_account_key"],
                optional: OPTIONAL,
            },
        ]
    }

    fn check(&self, config: &ConnectionConfig) -> Vec<FieldError> {
        let mut errors = protocol::check_sendable(config, &["api_key"]);
        if config.auth_type == "service_account" {
            errors.extend(iam_url(config).err());
            errors.extend(service_account_key(config).err());
        }
        errors.extend(folder_headers(config).err());
        errors
    }

    fn open(&self, config: ConnectionConfig) -> Result<Arc<dyn Provider>, ProviderError> {
        let unusable = |error: FieldError| protocol::unusable(error.to_string());
        let headers = folder_headers(&config).map_err(unusable)?;
        let auth: Arc<dyn Authorizer> = if config.auth_type == "service_account" {
            let key = service_account_key(&config).map_err(unusable)?;
            Arc::new(IamTokens::new(key, iam_url(&config).map_err(unusable)?, &config)?)
        } else {
            let key = config.credentials.as_ref().and_then(|own| own.get("api_key"));
            let key = key.and_then(|key| ApiKey::new("Api-Key", key));
            Arc::new(
                key.ok_or_else(|| protocol::unusable("credentials.api_key is missing or can't be sent"))?,
            )
        };
        let profile = Profile {
            provider_type: self.provider_type(),
            capabilities: capabilities(),
            purpose: "assistants",
            content_type: mime::content_type,
            health: HealthProbe::VectorStores,
            content_404_without_body: ErrorKind::ContentUnavailable,
        };
        let transport = protocol::transport(
            config,
            self.default_base_url(),
            profile.provider_type,
            headers,
            auth,
        )?;
        Ok(Arc::new(YandexProvider::new(OpenAiClient::new(
            transport, profile,
        ))))
    }
}

fn iam_url(config: &ConnectionConfig) -> Result<Url, FieldError> {
    let url = config.token_url.as_deref().unwrap_or(IAM_URL);
    check_base_url(url, config.network).map_err(|error| FieldError::new("token_url", error.message))
}

fn service_account_key(config: &ConnectionConfig) -> Result<ServiceAccountKey, FieldError> {
    let text = config
        .credentials
        .as_ref()
        .and_then(|credentials| credentials.get("service_account_key"));
    let text = text.map(ExposeSecret::expose_secret).unwrap_or_default();
    ServiceAccountKey::from_text(text)
        .map_err(|error| FieldError::new("credentials.service_account_key", error.to_string()))
}

fn folder_headers(config: &ConnectionConfig) -> Result<HeaderMap, FieldError> {
    let field = |name: &str| {
        let value = config.credentials.as_ref()?.get(name)?;
        Some(value.expose_secret().trim())
    };
    let mut headers = HeaderMap::new();
    let name = field("folder_header").unwrap_or("openai-project");
    let name = HeaderName::try_from(name)
        .map_err(|_| FieldError::new("credentials.folder_header", "is not the name of a header"))?;
    if let Some(folder_id) = field("folder_id") {
        let value = HeaderValue::try_from(folder_id)
            .map_err(|_| FieldError::new("credentials.folder_id", "holds characters that can't be sent"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}
