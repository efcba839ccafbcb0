//! The sections: one struct per concern, each with the function that reads it.
//!
//! `read` answers `None` when a value is missing or wrong; the reader has then noted why.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::database_uri::DatabaseUri;
use crate::reader::Reader;
use crate::values::{
    A_RATE, ADDRESS, CONNECTIONS, domain_id, http_url, interval, origins, pauses, seconds,
    service_account_key,
};

#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    pub uri: DatabaseUri,
    pub max_connections: u32,
}

impl DatabaseSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let uri = reader.required("DATABASE_URI").and_then(|text| {
            DatabaseUri::parse(&text)
                .map_err(|error| reader.mistake("DATABASE_URI", error.to_string()))
                .ok()
        });
        let max_connections = reader.integer("DATABASE_MAX_CONNECTIONS", 2..=10_000);
        Some(Self {
            uri: uri?,
            max_connections: max_connections?,
        })
    }
}

/// Who may call the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiAuth {
    /// Holders of a key in `rag_api_keys`.
    Keys,
    /// Anybody who reaches the port.
    Off,
}

#[derive(Debug, Clone)]
pub struct ApiSettings {
    pub listen: SocketAddr,
    pub auth: ApiAuth,
    pub max_file_bytes: u64,
    /// Of a body that is not a file.
    pub max_body_bytes: usize,
    pub max_header_bytes: usize,
    /// For the whole head of a request after an answer.
    pub header_timeout: Duration,
    /// For the whole head of a connection's first request.
    pub first_request_timeout: Duration,
    pub max_connections: usize,
    /// `None`: half of all.
    pub max_connections_per_address: Option<usize>,
    pub max_concurrent_requests: usize,
    pub max_concurrent_transfers: usize,
    /// Per key and process; `None`: no limit.
    pub rate_limit_per_second: Option<NonZeroU32>,
    pub rate_limit_burst: Option<NonZeroU32>,
    /// `None`: no limit.
    pub domain_max_files: Option<u64>,
    pub domain_max_bytes: Option<u64>,
    pub request_timeout: Duration,
    /// For callers that send no `Prefer`; `None`: they are answered at once.
    pub default_wait: Option<Duration>,
    pub upload_idle: Duration,
    pub download_idle: Duration,
    /// Of uploads and answers; 0: any.
    pub min_transfer_bytes_per_second: u64,
    pub grace: Duration,
}

impl ApiSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let listen = reader.parsed("API_LISTEN", ADDRESS);
        let auth = reader.choice("API_AUTH", &[("keys", ApiAuth::Keys), ("off", ApiAuth::Off)]);
        let max_file_bytes = reader.integer("API_MAX_FILE_BYTES", 1..=1 << 40);
        let max_body_bytes = reader.integer("API_MAX_BODY_BYTES", 1024..=1 << 28);
        let max_header_bytes = reader.integer("API_MAX_HEADER_BYTES", 8192..=1 << 20);
        let header_timeout = seconds(reader, "API_HEADER_TIMEOUT_SECONDS", 3600);
        let first_request_timeout = seconds(reader, "API_FIRST_REQUEST_TIMEOUT_SECONDS", 3600);
        let max_connections = reader.integer("API_MAX_CONNECTIONS", CONNECTIONS);
        let max_connections_per_address =
            reader.optional_integer("API_MAX_CONNECTIONS_PER_ADDRESS", CONNECTIONS);
        let max_concurrent_requests = reader.integer("API_MAX_CONCURRENT_REQUESTS", 1..=1_000_000);
        let max_concurrent_transfers = reader.integer("API_MAX_CONCURRENT_TRANSFERS", 1..=1_000_000);
        let rate_limit_per_second = reader.optional_integer("API_RATE_LIMIT_PER_SECOND", A_RATE);
        let rate_limit_burst = reader.optional_integer("API_RATE_LIMIT_BURST", A_RATE);
        let domain_max_files = reader.optional_integer("API_DOMAIN_MAX_FILES", 0..=1 << 40);
        let domain_max_bytes = reader.optional_integer("API_DOMAIN_MAX_BYTES", 0..=1 << 60);
        let request_timeout = seconds(reader, "API_REQUEST_TIMEOUT_SECONDS", 3600);
        let default_wait = reader.integer::<u64>("API_DEFAULT_WAIT_SECONDS", 0..=30);
        let upload_idle = seconds(reader, "API_UPLOAD_IDLE_SECONDS", 3600);
        let download_idle = seconds(reader, "API_DOWNLOAD_IDLE_SECONDS", 3600);
        let min_transfer_bytes_per_second = reader.integer("API_MIN_TRANSFER_BYTES_PER_SECOND", 0..=1 << 30);
        let grace = seconds(reader, "API_GRACE_SECONDS", 3600);
        Some(Self {
            listen: listen?,
            auth: auth?,
            max_file_bytes: max_file_bytes?,
            max_body_bytes: max_body_bytes?,
            max_header_bytes: max_header_bytes?,
            header_timeout: header_timeout?,
            first_request_timeout: first_request_timeout?,
            max_connections: max_connections?,
            max_connections_per_address: max_connections_per_address?,
            max_concurrent_requests: max_concurrent_requests?,
            max_concurrent_transfers: max_concurrent_transfers?,
            rate_limit_per_second: rate_limit_per_second?,
            rate_limit_burst: rate_limit_burst?,
            domain_max_files: domain_max_files?,
            domain_max_bytes: domain_max_bytes?,
            request_timeout: request_timeout?,
            default_wait: default_wait.map(|seconds| (seconds > 0).then(|| Duration::from_secs(seconds)))?,
            upload_idle: upload_idle?,
            download_idle: download_idle?,
            min_transfer_bytes_per_second: min_transfer_bytes_per_second?,
            grace: grace?,
        })
    }
}

#[derive(Debug, Clone)]
pub struct WorkerSettings {
    pub listen: SocketAddr,
    /// For the whole head of any request.
    pub header_timeout: Duration,
    pub max_connections: usize,
    /// `None`: half of all.
    pub max_connections_per_address: Option<usize>,
    pub concurrency: usize,
    pub grace: Duration,
    pub build_upload_concurrency: usize,
    pub build_poll_min: Duration,
    pub build_poll_max: Duration,
    /// Of a file, each time it goes into the store.
    pub build_indexing_timeout: Duration,
    /// How often a file that was not indexed in time is taken out and put in again.
    pub build_reattach_times: u32,
    /// Of a whole build, from its start: what is not indexed then has failed.
    pub build_deadline: Duration,
    pub build_max_attempts: u32,
    /// `None`: never by itself.
    pub orphans_every: Option<Duration>,
    /// What a search by itself finds is deleted, and not only reported.
    pub orphans_delete: bool,
    /// What is younger is no orphan yet: it may be work in flight.
    pub orphans_min_age: Duration,
}

impl WorkerSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let listen = reader.parsed("WORKER_LISTEN", ADDRESS);
        let header_timeout = seconds(reader, "WORKER_HEADER_TIMEOUT_SECONDS", 3600);
        let max_connections = reader.integer("WORKER_MAX_CONNECTIONS", CONNECTIONS);
        let max_connections_per_address =
            reader.optional_integer("WORKER_MAX_CONNECTIONS_PER_ADDRESS", CONNECTIONS);
        let concurrency = reader.integer("WORKER_CONCURRENCY", 1..=1024);
        let grace = seconds(reader, "WORKER_GRACE_SECONDS", 3600);
        let build_upload_concurrency = reader.integer("BUILD_UPLOAD_CONCURRENCY", 1..=64);
        let poll = pauses(reader, "BUILD_POLL_MIN_MS", "BUILD_POLL_MAX_MS");
        let build_indexing_timeout = seconds(reader, "BUILD_INDEXING_TIMEOUT_SECONDS", 7 * 86_400);
        let build_reattach_times = reader.integer("BUILD_REATTACH_TIMES", 0..=100);
        let build_deadline = seconds(reader, "BUILD_DEADLINE_SECONDS", 31 * 86_400);
        let build_max_attempts = reader.integer("BUILD_MAX_ATTEMPTS", 1..=1000);
        let orphans_every: Option<u64> = reader.integer("ORPHANS_EVERY_SECONDS", 0..=31 * 86_400);
        let orphans_delete = reader.choice("ORPHANS_MODE", &[("report", false), ("delete", true)]);
        let orphans_min_age = seconds(reader, "ORPHANS_MIN_AGE_SECONDS", 31 * 86_400);
        let (build_poll_min, build_poll_max) = poll?;
        Some(Self {
            listen: listen?,
            header_timeout: header_timeout?,
            max_connections: max_connections?,
            max_connections_per_address: max_connections_per_address?,
            concurrency: concurrency?,
            grace: grace?,
            build_upload_concurrency: build_upload_concurrency?,
            build_poll_min,
            build_poll_max,
            build_indexing_timeout: build_indexing_timeout?,
            build_reattach_times: build_reattach_times?,
            build_deadline: build_deadline?,
            build_max_attempts: build_max_attempts?,
            orphans_every: Some(orphans_every?)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            orphans_delete: orphans_delete?,
            orphans_min_age: orphans_min_age?,
        })
    }
}

#[derive(Debug, Clone)]
pub struct QueueSettings {
    pub lease: Duration,
    pub poll: Duration,
    pub retention: Duration,
}

impl QueueSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let lease = seconds(reader, "QUEUE_LEASE_SECONDS", 3600);
        let poll = reader
            .integer("QUEUE_POLL_MS", 10..=1000)
            .map(Duration::from_millis);
        let retention_days = reader.integer::<u64>("QUEUE_RETENTION_DAYS", 1..=3650);
        Some(Self {
            lease: lease?,
            poll: poll?,
            retention: Duration::from_secs(retention_days? * 86_400),
        })
    }
}

#[derive(Debug, Clone)]
pub struct FilesSettings {
    pub root: PathBuf,
    /// How often disk and rows are compared; `None`: never.
    pub sweep_every: Option<Duration>,
    /// What no row names is deleted, and not only reported.
    pub sweep_deletes: bool,
    /// What is younger may be an upload under way.
    pub sweep_min_age: Duration,
    /// A sweep that would delete more than this share deletes nothing.
    pub sweep_brake_percent: u64,
}

impl FilesSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let root = reader.required("FILES_ROOT").map(PathBuf::from);
        let sweep_every = interval(reader, "FILES_SWEEP_EVERY_SECONDS");
        let sweep_deletes = reader.choice("FILES_SWEEP", &[("report", false), ("delete", true)]);
        let sweep_min_age = seconds(reader, "FILES_SWEEP_MIN_AGE_SECONDS", 365 * 86_400);
        let sweep_brake_percent = reader.integer("FILES_SWEEP_BRAKE_PERCENT", 0..=100);
        Some(Self {
            root: root?,
            sweep_every: sweep_every?,
            sweep_deletes: sweep_deletes?,
            sweep_min_age: sweep_min_age?,
            sweep_brake_percent: sweep_brake_percent?,
        })
    }
}

#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Its format is rag-secrets' concern.
    pub secrets_key: Option<SecretString>,
    pub allow_loopback_http: bool,
    pub allow_private_addresses: bool,
    pub default_domain_id: String,
    pub yc_folder_id: Option<String>,
    /// The service account key as JSON text, already taken out of its base64.
    pub yc_service_account_key: Option<SecretString>,
    /// Where that key may go, each as `scheme://host[:port]`.
    pub yc_key_origins: Vec<String>,
    pub yc_iam_url: Url,
}

impl ProviderSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let secrets_key = reader.optional_secret("PROVIDER_SECRETS_KEY");
        let allow_loopback_http = reader.boolean("PROVIDER_ALLOW_LOOPBACK_HTTP");
        let allow_private_addresses = reader.boolean("PROVIDER_ALLOW_PRIVATE_ADDRESSES");
        let default_domain_id = domain_id(reader, "DEFAULT_DOMAIN_ID");
        let yc_folder_id = reader.optional("YC_FOLDER_ID");
        let yc_service_account_key = service_account_key(reader, "YC_SA_KEY_JSON_B64");
        let yc_key_origins = origins(reader, "YC_SA_KEY_ORIGINS");
        let yc_iam_url = http_url(reader, "YC_IAM_URL");
        Some(Self {
            secrets_key,
            allow_loopback_http: allow_loopback_http?,
            allow_private_addresses: allow_private_addresses?,
            default_domain_id: default_domain_id?,
            yc_folder_id,
            yc_service_account_key,
            yc_key_origins: yc_key_origins?,
            yc_iam_url: yc_iam_url?,
        })
    }
}

#[derive(Debug, Clone)]
pub struct SyncSettings {
    /// `None`: never by itself.
    pub provider_every: Option<Duration>,
    pub index_every: Option<Duration>,
    /// A look at an index that is younger is not repeated unless forced.
    pub fresh: Duration,
    /// What a provider does not show any more counts as gone only if a second look so much later agrees; for builds too.
    pub missing_confirm: Duration,
    /// A sync that would detach more than this share stops, unless forced.
    pub brake_percent: u32,
    /// Files that one sync downloads or compares at once.
    pub file_concurrency: usize,
}

impl SyncSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let provider_every = interval(reader, "PROVIDER_SYNC_EVERY_SECONDS");
        let index_every = interval(reader, "INDEX_SYNC_EVERY_SECONDS");
        let fresh = reader.integer("INDEX_SYNC_FRESH_SECONDS", 0..=86_400);
        let missing_confirm = reader.integer("MISSING_CONFIRM_SECONDS", 1..=86_400);
        let brake_percent = reader.integer("SYNC_BRAKE_PERCENT", 0..=100);
        let file_concurrency = reader.integer("SYNC_FILE_CONCURRENCY", 1..=64);
        Some(Self {
            provider_every: provider_every?,
            index_every: index_every?,
            fresh: Duration::from_secs(fresh?),
            missing_confirm: Duration::from_secs(missing_confirm?),
            brake_percent: brake_percent?,
            file_concurrency: file_concurrency?,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    pub log_format: LogFormat,
    /// In the syntax of tracing-subscriber's `EnvFilter`.
    pub log_filter: String,
}

impl TelemetrySettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let log_format = reader.choice(
            "LOG_FORMAT",
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        );
        let log_filter = reader.required("RUST_LOG");
        Some(Self {
            log_format: log_format?,
            log_filter: log_filter?,
        })
    }
}
