//! What the environment supplies where a connection's row holds no credentials: Yandex Cloud's folder, service account key
//! and token endpoint. The key goes to the hosts that it was given for: a caller who may change a connection must not be able to
//! send it anywhere else.

use rag_providers::{ConnectionConfig, Credentials};
use rag_settings::ProviderSettings;
use secrecy::{ExposeSecret as _, SecretString};

const YANDEX: &str = "yandex";

/// Empty by default: nothing is supplied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fallback {
    folder_id: Option<String>,
    service_account_key: Option<SecretString>,
    /// Where the key may go, each as `scheme://host[:port]`.
    key_origins: Vec<String>,
    iam_url: Option<String>,
}

impl From<&ProviderSettings> for Fallback {
    fn from(settings: &ProviderSettings) -> Self {
        Self {
            folder_id: settings.yc_folder_id.clone(),
            service_account_key: settings.yc_service_account_key.clone(),
            key_origins: settings.yc_key_origins.clone(),
            iam_url: Some(settings.yc_iam_url.to_string()),
        }
    }
}

impl Fallback {
    /// Adds what is missing. Credentials of the row are never mixed with a key from here; a folder is no secret, and goes
    /// with any. `origin`: where the connection goes.
    pub(crate) fn complete(&self, config: &mut ConnectionConfig, origin: Option<&str>) {
        if config.provider_type != YANDEX {
            return;
        }
        if config.token_url.is_none() {
            config.token_url.clone_from(&self.iam_url);
        }
        if let Some(key) = self.wanted_key(config)
            && self.is_for(origin)
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

    /// Why a connection does not get the key that it lacks, if there is one.
    pub(crate) fn withheld(&self, config: &ConnectionConfig, origin: Option<&str>) -> Option<String> {
        let wanted = config.provider_type == YANDEX && self.wanted_key(config).is_some();
        (wanted && !self.is_for(origin)).then(|| {
            format!(
                "the key of YC_SA_KEY_JSON_B64 goes to {} only (YC_SA_KEY_ORIGINS): another host needs credentials of its own",
                self.key_origins.join(", ")
            )
        })
    }

    /// The key, if the connection has neither that nor other credentials.
    fn wanted_key(&self, config: &ConnectionConfig) -> Option<&SecretString> {
        let lacks = config.credentials.is_none() && config.auth_type == "service_account";
        self.service_account_key.as_ref().filter(|_| lacks)
    }

    fn is_for(&self, origin: Option<&str>) -> bool {
        origin.is_some_and(|origin| self.key_origins.iter().any(|own| own == origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "https://ai.example";

    fn fallback() -> Fallback {
        Fallback {
            folder_id: Some("b1gfolder".to_owned()),
            service_account_key: Some("{}".to_owned().into()),
            key_origins: vec![OWN.to_owned()],
            iam_url: Some("https://iam.example/tokens".to_owned()),
        }
    }

    fn config(provider: &str, auth_type: &str, credentials: Option<Credentials>) -> ConnectionConfig {
        let mut config = ConnectionConfig::new(provider, auth_type);
        config.credentials = credentials;
        config
    }

    fn completed(provider: &str, auth_type: &str, credentials: Option<Credentials>) -> (Vec<String>, bool) {
        let mut config = config(provider, auth_type, credentials);
        fallback().complete(&mut config, Some(OWN));
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

    #[test]
    fn the_key_goes_nowhere_but_to_its_hosts() {
        for origin in [
            None,
            Some("https://ai.example:8443"),
            Some("http://ai.example"),
            Some("https://else.example"),
        ] {
            let mut config = config(YANDEX, "service_account", None);
            assert!(fallback().withheld(&config, origin).is_some(), "{origin:?}");
            fallback().complete(&mut config, origin);
            assert!(config.credentials.is_none(), "{origin:?}");
        }
        let own = config(YANDEX, "service_account", None);
        assert_eq!(fallback().withheld(&own, Some(OWN)), None);
        // Credentials of its own may go anywhere.
        let own = config(YANDEX, "api_key", Some(Credentials::api_key("k")));
        assert_eq!(fallback().withheld(&own, Some("https://else.example")), None);
        assert_eq!(
            Fallback::default().withheld(&config(YANDEX, "service_account", None), None),
            None
        );
    }
}
