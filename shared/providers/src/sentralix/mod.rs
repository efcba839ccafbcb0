//! Sentralix: any server that speaks OpenAI's dialect, at a configured base URL.

use std::sync::Arc;

use crate::adapter::{Adapter, AuthMethod};
use crate::connection::{ConnectionConfig, FieldError};
use crate::contract::Provider;
use crate::error::{ErrorKind, ProviderError};
use crate::protocol::{self, HealthProbe, OpenAiClient, Profile};
use crate::types::Capabilities;

/// `api_key`: `{"api_key": "…", "organization": "…", "project": "…"}`, the last two optional. A base URL is required.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sentralix;

/// Nothing is documented beyond "the plain protocol", so its numbers apply; without `/uploads`, which is not part of it.
fn capabilities() -> Capabilities {
    let openai_limits = protocol::documented_capabilities();
    Capabilities {
        max_file_bytes: openai_limits.max_simple_upload_bytes,
        uploads_api: false,
        attach_writes_per_minute: None,
        ..openai_limits
    }
}

impl Adapter for Sentralix {
    fn provider_type(&self) -> &'static str {
        "sentralix"
    }

    fn default_base_url(&self) -> Option<&'static str> {
        None
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
            capabilities: capabilities(),
            purpose: "assistants",
            content_type: protocol::content_type_by_name,
            health: HealthProbe::Models,
            content_404_without_body: ErrorKind::NotFound,
        };
        let transport = protocol::bearer_transport(config, self.default_base_url(), profile.provider_type)?;
        Ok(Arc::new(OpenAiClient::new(transport, profile)))
    }
}
