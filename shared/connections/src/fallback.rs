//! What the environment supplies where a connection's row holds no credentials: Yandex Cloud's folder, service account key
//! and token endpoint.

use rag_providers::{ConnectionConfig, Credentials};
use rag_settings::ProviderSettings;
use secrecy::{ExposeSecret as _, SecretString};

const YANDEX: &str = "yandex";

/// Empty by default: nothing is supplied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fallback {
    folder_id: Option<String>,
    service_account_key: Option<SecretString>,
    iam_url: Option<String>,
}

impl From<&ProviderSettings> for Fallback {
    fn from(settings: &ProviderSettings) -> Self {
        Self {
            folder_id: settings.yc_folder_id.clone(),
            service_account_key: settings.yc_service_account_key.clone(),
            iam_url: Some(settings.yc_iam_url.to_string()),
        }
    }
}

impl Fallback {
    /// Adds what is missing. Credentials of the row are never mixed with a key from here; a folder is no secret, and goes
    /// with any.
    pub(crate) fn complete(&self, config: &mut ConnectionConfig) {
        if config.provider_type != YANDEX {
            return;
        }
        if config.token_url.is_none() {
            config.token_url.clone_from(&self.iam_url);
        }
        if config.credentials.is_none()
            && config.auth_type == "service_account"
            && let Some(key) = &self.service_account_key
        {
            let own = Credentials::default().with("service_account_key", key.expose_secret());
            config.credentials = Some(own);
        }
        if let Some(folder) = &self.folder_id
            && let Some(own) = config.credentials.take_if(|own| own.get("folder_id").is_none())
        {
            config.credentials = Some(own.with("folder_id", folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback() -> Fallback {
        Fallback {
            folder_id: Some("b1gfolder".to_owned()),
            service_account_key: Some("{}".to_owned().into()),
            iam_url: Some("https://iam.example/tokens".to_owned()),
        }
    }

    fn completed(provider: &str, auth_type: &str, credentials: Option<Credentials>) -> (Vec<String>, bool) {
        let mut config = ConnectionConfig::new(provider, auth_type);
        config.credentials = credentials;
        fallback().complete(&mut config);
        let own = config.credentials.unwrap_or_default();
        (
            own.fields().map(str::to_owned).collect(),
            config.token_url.is_some(),
        )
    }

    #[test]
    fn only_what_is_missing_is_supplied_and_to_yandex_only() {
        assert_eq!(completed("openai", "service_account", None), (vec![], false));
        assert_eq!(completed("yandex", "api_key", None), (vec![], true));
        let both = vec!["folder_id".to_owned(), "service_account_key".to_owned()];
        assert_eq!(completed("yandex", "service_account", None), (both, true));
        let key = Some(Credentials::api_key("k"));
        let own = vec!["api_key".to_owned(), "folder_id".to_owned()];
        assert_eq!(completed("yandex", "api_key", key), (own, true));
    }
}
