//! OpenAI itself: its defaults. The dialect and its limits are its own, so there are no quirks here.

use std::sync::Arc;

use crate::adapter::{Adapter, AuthMethod};
use crate::connection::{ConnectionConfig, FieldError};
use crate::contract::Provider;
use crate::error::{ErrorKind, ProviderError};
use crate::protocol::{self, HealthProbe, OpenAiClient, Profile};

/// `api_key`: `{"api_key": "…", "organization": "…", "project": "…"}`, the last two optional.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenAi;

impl Adapter for OpenAi {
    fn provider_type(&self) -> &'static str {
        "openai"
    }

    fn default_base_url(&self) -> Option<&'static str> {
        Some("https://api.openai.com/v1")
    }

    fn auth_methods(&self) -> &'static [AuthMethod] {
        &[AuthMethod {
            auth_type: "api_key",
            required: &["api_key"],
            optional: &["organization", "project"],
        }]
    }

    fn check(&self, config: &ConnectionConfig) -> Vec<FieldError> {
        protocol::check_sendable(config, &["api_key", "organization", "project"])
    }

    fn open(&self, config: ConnectionConfig) -> Result<Arc<dyn Provider>, ProviderError> {
        let profile = Profile {
            provider_type: self.provider_type(),
            capabilities: protocol::documented_capabilities(),
            purpose: "assistants",
            content_type: protocol::content_type_by_name,
            // Restricted keys may be without the right to list models.
            health: HealthProbe::VectorStores,
            content_404_without_body: ErrorKind::NotFound,
        };
        let transport = protocol::bearer_transport(config, self.default_base_url(), profile.provider_type)?;
        Ok(Arc::new(OpenAiClient::new(transport, profile)))
    }
}
