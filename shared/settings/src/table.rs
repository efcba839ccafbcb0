//! The list of settings as data: what exists, its default, what it means.

use crate::setting::{Setting, secret, setting};

/// Every setting, in the order in which it is documented.
pub const SETTINGS: &[Setting] = &[
    secret(
        "database",
        "DATABASE_URI",
        "Required. MariaDB, e.g. mysql://user:password@host:3306/rag; also mariadb:// and SQLAlchemy forms such as \
         mysql+pymysql://. A socket: ?socket=/run/mysqld/mysqld.sock. TLS: ?ssl_ca=/path/ca.pem&ssl_mode=VERIFY_IDENTITY \
         (deploy/README.md has all options)",
    ),
    setting(
        "database",
        "DATABASE_MAX_CONNECTIONS",
        Some("16"),
        "Connections each process may hold open",
    ),
    setting(
        "api",
        "API_LISTEN",
        Some("127.0.0.1:8080"),
        "Address and port of the HTTP API",
    ),
    setting(
        "api",
        "API_AUTH",
        Some("keys"),
        "keys: callers need a bearer key (`rag-api keys create`). off: anybody who reaches the port is an admin",
    ),
    setting(
        "api",
        "API_MAX_FILE_BYTES",
        Some("536870912"),
        "Largest file that can be uploaded (512 MiB)",
    ),
    setting(
        "api",
        "API_MAX_BODY_BYTES",
        Some("2097152"),
        "Largest request body that is not a file (2 MiB)",
    ),
    setting(
        "api",
        "API_REQUEST_TIMEOUT_SECONDS",
        Some("30"),
        "Longest a request may take; transfers of file contents are exempt",
    ),
    setting(
        "api",
        "API_MAX_HEADER_BYTES",
        Some("32768"),
        "Largest head of a request, and largest pieces in which bodies are read; larger heads are answered with 431",
    ),
    setting(
        "api",
        "API_HEADER_TIMEOUT_SECONDS",
        Some("60"),
        "After an answer, a connection on which no whole head of a further request arrives for this long is closed",
    ),
    setting(
        "api",
        "API_FIRST_REQUEST_TIMEOUT_SECONDS",
        Some("10"),
        "A new connection on which no whole head of a request arrives for this long is closed",
    ),
    setting(
        "api",
        "API_MAX_CONNECTIONS",
        Some("20000"),
        "Connections a process holds open, but never more than half of the file descriptors it may have; more are closed at once",
    ),
    setting(
        "api",
        "API_MAX_CONNECTIONS_PER_ADDRESS",
        None,
        "Of those, the connections from one address (of IPv6: from one /64). Not set: half of all; behind a reverse proxy, \
         whose address all have, set it to API_MAX_CONNECTIONS",
    ),
    setting(
        "api",
        "API_MAX_CONCURRENT_REQUESTS",
        Some("512"),
        "Requests a process carries out at once; more are refused with 503. Streams of events and callers that wait for a \
         job do not count",
    ),
    setting(
        "api",
        "API_MAX_CONCURRENT_TRANSFERS",
        Some("64"),
        "Uploads and downloads of file contents a process carries out at once; more are refused with 503",
    ),
    setting(
        "api",
        "API_RATE_LIMIT_PER_SECOND",
        None,
        "Requests a second that each key may send to each process; more are refused with 429. Not set: no limit",
    ),
    setting(
        "api",
        "API_RATE_LIMIT_BURST",
        None,
        "Requests that a key may send at once after a pause. Not set: as many as in a second",
    ),
    setting(
        "api",
        "API_DOMAIN_MAX_FILES",
        None,
        "Files a domain may have; further uploads are refused with 409. Not set: no limit",
    ),
    setting(
        "api",
        "API_DOMAIN_MAX_BYTES",
        None,
        "Bytes the files of a domain may have together; uploads beyond are refused with 413. Not set: no limit",
    ),
    setting(
        "api",
        "API_DEFAULT_WAIT_SECONDS",
        Some("0"),
        "How long a call that enqueues a job waits for its end if the caller sends no `Prefer`; 0: it answers 202 at once",
    ),
    setting(
        "api",
        "API_UPLOAD_IDLE_SECONDS",
        Some("60"),
        "An upload from which nothing arrives for this long is given up",
    ),
    setting(
        "api",
        "API_DOWNLOAD_IDLE_SECONDS",
        Some("60"),
        "An answer of which the caller takes nothing more for this long is given up",
    ),
    setting(
        "api",
        "API_MIN_TRANSFER_BYTES_PER_SECOND",
        Some("1024"),
        "An upload or answer that is slower than this, while it is the caller who keeps it waiting, is given up; on average \
         over the idle time. 0: no limit",
    ),
    setting(
        "api",
        "API_GRACE_SECONDS",
        Some("20"),
        "How long running requests may go on after SIGTERM or SIGINT",
    ),
    setting(
        "worker",
        "WORKER_LISTEN",
        Some("127.0.0.1:9091"),
        "Address and port of the worker's /health and /metrics",
    ),
    setting(
        "worker",
        "WORKER_HEADER_TIMEOUT_SECONDS",
        Some("30"),
        "A connection to these on which no whole head of a request arrives for this long is closed",
    ),
    setting(
        "worker",
        "WORKER_MAX_CONNECTIONS",
        Some("256"),
        "Connections to these that a worker holds open, but never more than half of its file descriptors",
    ),
    setting(
        "worker",
        "WORKER_MAX_CONNECTIONS_PER_ADDRESS",
        None,
        "Of those, the connections from one address. Not set: half of all",
    ),
    setting(
        "worker",
        "WORKER_CONCURRENCY",
        Some("8"),
        "Jobs a worker runs at once",
    ),
    setting(
        "worker",
        "WORKER_GRACE_SECONDS",
        Some("20"),
        "How long a worker waits for its jobs after SIGTERM before it hands them back",
    ),
    setting(
        "worker",
        "BUILD_UPLOAD_CONCURRENCY",
        Some("4"),
        "Files one build uploads at once",
    ),
    setting(
        "worker",
        "BUILD_POLL_MIN_MS",
        Some("1000"),
        "First pause between two looks at the provider while it indexes",
    ),
    setting(
        "worker",
        "BUILD_POLL_MAX_MS",
        Some("15000"),
        "Longest pause between two looks at the provider",
    ),
    setting(
        "worker",
        "BUILD_INDEXING_TIMEOUT_SECONDS",
        Some("3600"),
        "A file that the provider has not indexed after this long is taken out of the store and put in again, or has failed",
    ),
    setting(
        "worker",
        "BUILD_REATTACH_TIMES",
        Some("1"),
        "How often a file that was not indexed in time, or with which the provider's server failed, is put in again before it has failed",
    ),
    setting(
        "worker",
        "BUILD_DEADLINE_SECONDS",
        Some("86400"),
        "Files that the provider has not indexed so long after the start of a build have failed",
    ),
    setting(
        "worker",
        "BUILD_MAX_ATTEMPTS",
        Some("8"),
        "Real failures, without getting on in between, after which a build is given up",
    ),
    setting(
        "worker",
        "ORPHANS_EVERY_SECONDS",
        Some("0"),
        "How often every provider is searched for what we made there and no row speaks of; 0: never by itself",
    ),
    setting(
        "worker",
        "ORPHANS_MODE",
        Some("report"),
        "What becomes of what such a search finds: report or delete",
    ),
    setting(
        "worker",
        "ORPHANS_MIN_AGE_SECONDS",
        Some("3600"),
        "What is younger is no orphan yet: it may be work in flight",
    ),
    setting(
        "queue",
        "QUEUE_LEASE_SECONDS",
        Some("30"),
        "A worker that has not been heard of for this long loses its jobs",
    ),
    setting(
        "queue",
        "QUEUE_POLL_MS",
        Some("50"),
        "How often an idle worker's database looks for jobs that other processes enqueued; one statement a second",
    ),
    setting(
        "queue",
        "QUEUE_RETENTION_DAYS",
        Some("14"),
        "Finished jobs are deleted after this many days",
    ),
    setting(
        "files",
        "FILES_ROOT",
        Some("./data/files"),
        "Folder of the file contents; the API and all workers must see the same one",
    ),
    setting(
        "files",
        "FILES_SWEEP_EVERY_SECONDS",
        Some("21600"),
        "How often one worker compares FILES_ROOT with the rows, for what killed processes left there; 0: never",
    ),
    setting(
        "files",
        "FILES_SWEEP",
        Some("delete"),
        "What becomes of contents that no row names: report or delete. Files of other names are never touched",
    ),
    setting(
        "files",
        "FILES_SWEEP_MIN_AGE_SECONDS",
        Some("86400"),
        "What is younger is no leftover yet: it may be an upload under way. Must be longer than any upload takes",
    ),
    setting(
        "files",
        "FILES_SWEEP_BRAKE_PERCENT",
        Some("20"),
        "A sweep that would delete more than this share of the contents (and more than a hundred) deletes nothing",
    ),
    secret(
        "providers",
        "PROVIDER_SECRETS_KEY",
        "Key that seals provider credentials; the same in the API and in the workers. Needed as soon as a connection \
         has credentials",
    ),
    setting(
        "providers",
        "PROVIDER_ALLOW_LOOPBACK_HTTP",
        Some("false"),
        "Allow plain http to providers on this machine (for the demo and for tests)",
    ),
    setting(
        "providers",
        "PROVIDER_ALLOW_PRIVATE_ADDRESSES",
        Some("false"),
        "Allow providers at private network addresses",
    ),
    setting(
        "providers",
        "DEFAULT_DOMAIN_ID",
        Some("0"),
        "Domain of what a provider sync creates",
    ),
    setting(
        "providers",
        "YC_FOLDER_ID",
        None,
        "Yandex Cloud folder, where the connection names none",
    ),
    secret(
        "providers",
        "YC_SA_KEY_JSON_B64",
        "Yandex Cloud service account key: its JSON in base64, where the connection has none",
    ),
    setting(
        "providers",
        "YC_SA_KEY_ORIGINS",
        Some("https://ai.api.cloud.yandex.net"),
        "Where the key of YC_SA_KEY_JSON_B64 may go: schemes, hosts and ports of connections, separated by commas. A connection to \
         any other needs credentials of its own",
    ),
    setting(
        "providers",
        "YC_IAM_URL",
        Some("https://iam.api.cloud.yandex.net/iam/v1/tokens"),
        "Where Yandex Cloud exchanges a service account key for a token",
    ),
    setting(
        "sync",
        "PROVIDER_SYNC_EVERY_SECONDS",
        Some("0"),
        "How often every switched-on provider is synced by itself, once for the whole fleet; 0: never",
    ),
    setting(
        "sync",
        "INDEX_SYNC_EVERY_SECONDS",
        Some("0"),
        "How often the indexes of every domain are synced by themselves, once for the whole fleet; 0: never",
    ),
    setting(
        "sync",
        "INDEX_SYNC_FRESH_SECONDS",
        Some("5"),
        "A look at an index's store that is younger is not repeated, unless forced",
    ),
    setting(
        "sync",
        "MISSING_CONFIRM_SECONDS",
        Some("30"),
        "What a provider does not show any more counts as gone only if a second look so much later agrees",
    ),
    setting(
        "sync",
        "SYNC_BRAKE_PERCENT",
        Some("20"),
        "A sync that would detach more than this share of the indexes or files (and more than three) stops, unless forced",
    ),
    setting(
        "sync",
        "SYNC_FILE_CONCURRENCY",
        Some("4"),
        "Files one provider sync downloads or compares at once",
    ),
    setting(
        "telemetry",
        "LOG_FORMAT",
        Some("text"),
        "text or json; logs go to stderr",
    ),
    setting(
        "telemetry",
        "RUST_LOG",
        Some("info"),
        "Log filter, e.g. info,rag_api=debug",
    ),
];
