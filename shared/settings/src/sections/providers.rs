//! Providers, and the syncs that read them.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::section;
use crate::setting::{boolean, secret, text, whole};
use crate::values::{DAY, domain_id, origins, seconds, seconds_or_off, service_account_key, url};

section! {
    ProviderSettings in "providers" {
        /// Its format is rag-secrets' concern.
        secrets_key: Option<SecretString> = secret(
            "PROVIDER_SECRETS_KEY",
            "Key that seals provider credentials: any text of at least 16 characters (`openssl rand -base64 32`), the same in \
             the API and in the workers. Needed as soon as a connection has credentials. To change it, put the new key in \
             front of the old one, separated by a comma. Keep a copy apart from database backups",
        ).optional(),
        allow_loopback_http: bool = boolean(
            "PROVIDER_ALLOW_LOOPBACK_HTTP",
            "Allow plain http to providers on this machine (for the demo and for tests)",
        ).default("false"),
        allow_private_addresses: bool = boolean(
            "PROVIDER_ALLOW_PRIVATE_ADDRESSES",
            "Allow providers at private network addresses",
        ).default("false"),
        default_domain_id: String = domain_id(
            "DEFAULT_DOMAIN_ID",
            "Domain of what a provider sync creates",
        ).default("0"),
        yc_folder_id: Option<String> = text(
            "YC_FOLDER_ID",
            "Yandex Cloud folder, where the connection names none",
        ).optional(),
        /// The JSON, already taken out of its base64.
        yc_service_account_key: Option<SecretString> = service_account_key(
            "YC_SA_KEY_JSON_B64",
            "Yandex Cloud service account key: its JSON in base64, where the connection has none",
        ).optional(),
        /// Where that key may go, each as `scheme://host[:port]`.
        yc_key_origins: Vec<String> = origins(
            "YC_SA_KEY_ORIGINS",
            "Where the key of YC_SA_KEY_JSON_B64 may go: schemes, hosts and ports of connections, separated by commas. A \
             connection to any other needs credentials of its own",
        ).default("https://ai.api.cloud.yandex.net"),
        yc_iam_url: Url = url(
            "YC_IAM_URL",
            "Where Yandex Cloud exchanges a service account key for a token",
        ).default("https://iam.api.cloud.yandex.net/iam/v1/tokens"),
    }
}

section! {
    SyncSettings in "sync" {
        /// `None`: never by itself.
        provider_every: Option<Duration> = seconds_or_off(
            "PROVIDER_SYNC_EVERY_SECONDS",
            31 * DAY,
            "How often every switched-on provider is synced by itself, once for the whole fleet; 0: never",
        ).default("0"),
        index_every: Option<Duration> = seconds_or_off(
            "INDEX_SYNC_EVERY_SECONDS",
            31 * DAY,
            "How often the indexes of every domain are synced by themselves, once for the whole fleet; 0: never",
        ).default("0"),
        fresh: Duration = seconds(
            "INDEX_SYNC_FRESH_SECONDS",
            0..=DAY,
            "An index that was synced more recently is not synced again, unless forced",
        ).default("5"),
        /// For builds too.
        missing_confirm: Duration = seconds(
            "MISSING_CONFIRM_SECONDS",
            1..=DAY,
            "What a provider does not show any more counts as gone only if a second listing so much later agrees",
        ).default("30"),
        deletion_threshold_percent: u32 = whole(
            "SYNC_DELETION_THRESHOLD_PERCENT",
            0..=100,
            "A sync that would detach more than this share of the indexes or files (and more than three) stops, unless forced",
        ).unit("percent").default("20"),
        file_concurrency: usize = whole(
            "SYNC_FILE_CONCURRENCY",
            1..=64,
            "At most so many calls of provider syncs are under way at once from one worker process at one connection, and so \
             many stores are worked on. How many calls are follows the provider's answers",
        ).default("32"),
    }
}
