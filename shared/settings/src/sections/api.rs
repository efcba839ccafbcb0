//! The HTTP API: who may call it, and what a call may cost.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::section;
use crate::setting::{choice, whole};
use crate::values::{CONNECTIONS, HOUR, RATE, address, seconds, seconds_or_off};

/// Who may call the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiAuth {
    /// Holders of a key in `rag_api_keys`.
    Keys,
    /// Anybody who reaches the port.
    Off,
}

section! {
    ApiSettings in "api" {
        listen: SocketAddr = address(
            "API_LISTEN",
            "Address and port of the HTTP API",
        ).default("127.0.0.1:8080"),
        auth: ApiAuth = choice(
            "API_AUTH",
            &[("keys", ApiAuth::Keys), ("off", ApiAuth::Off)],
            "keys: callers need a bearer key (`rag-api keys create`). off: anybody who reaches the port is an admin",
        ).default("keys"),
        max_file_bytes: u64 = whole(
            "API_MAX_FILE_BYTES",
            1..=1 << 40,
            "Largest file that can be uploaded (512 MiB)",
        ).unit("bytes").default("536870912"),
        /// Of a body that is not a file.
        max_body_bytes: usize = whole(
            "API_MAX_BODY_BYTES",
            1024..=1 << 28,
            "Largest request body that is not a file (2 MiB)",
        ).unit("bytes").default("2097152"),
        request_timeout: Duration = seconds(
            "API_REQUEST_TIMEOUT_SECONDS",
            1..=HOUR,
            "Longest a request may take; transfers of file contents are exempt",
        ).default("30"),
        max_header_bytes: usize = whole(
            "API_MAX_HEADER_BYTES",
            8192..=1 << 20,
            "Largest head of a request, and largest pieces in which bodies are read; larger heads are answered with 431",
        ).unit("bytes").default("32768"),
        /// For the whole head of a request after an answer.
        header_timeout: Duration = seconds(
            "API_HEADER_TIMEOUT_SECONDS",
            1..=HOUR,
            "After an answer, a connection on which no whole head of a further request arrives for this long is closed",
        ).default("60"),
        /// For the whole head of a connection's first request.
        first_request_timeout: Duration = seconds(
            "API_FIRST_REQUEST_TIMEOUT_SECONDS",
            1..=HOUR,
            "A new connection on which no whole head of a request arrives for this long is closed",
        ).default("10"),
        max_connections: usize = whole(
            "API_MAX_CONNECTIONS",
            CONNECTIONS,
            "Connections a process holds open, but never more than half of the file descriptors it may have; more are closed \
             at once",
        ).default("20000"),
        /// `None`: half of all.
        max_connections_per_address: Option<usize> = whole(
            "API_MAX_CONNECTIONS_PER_ADDRESS",
            CONNECTIONS,
            "Of those, the connections from one address (of IPv6: from one /64). Not set: half of all; behind a reverse proxy, \
             whose address all have, set it to API_MAX_CONNECTIONS",
        ).optional(),
        max_concurrent_requests: usize = whole(
            "API_MAX_CONCURRENT_REQUESTS",
            1..=1_000_000,
            "Requests a process carries out at once; more are refused with 503. Streams of events and callers that wait for a \
             job do not count",
        ).default("512"),
        max_concurrent_transfers: usize = whole(
            "API_MAX_CONCURRENT_TRANSFERS",
            1..=1_000_000,
            "Uploads and downloads of file contents a process carries out at once; more are refused with 503",
        ).default("64"),
        /// Per key and process; `None`: no limit.
        rate_limit_per_second: Option<NonZeroU32> = whole(
            "API_RATE_LIMIT_PER_SECOND",
            RATE,
            "Requests a second that each key may send to each process; more are refused with 429. Not set: no limit",
        ).optional(),
        rate_limit_burst: Option<NonZeroU32> = whole(
            "API_RATE_LIMIT_BURST",
            RATE,
            "Requests that a key may send at once after a pause. Not set: as many as in a second",
        ).optional(),
        domain_max_files: Option<u64> = whole(
            "API_DOMAIN_MAX_FILES",
            0..=1 << 40,
            "Files a domain may have; further uploads are refused with 409. Not set: no limit",
        ).optional(),
        domain_max_bytes: Option<u64> = whole(
            "API_DOMAIN_MAX_BYTES",
            0..=1 << 60,
            "Bytes the files of a domain may have together; uploads beyond are refused with 413. Not set: no limit",
        ).unit("bytes").optional(),
        /// For callers that send no `Prefer`; `None`: they are answered at once.
        default_wait: Option<Duration> = seconds_or_off(
            "API_DEFAULT_WAIT_SECONDS",
            30,
            "How long a call that enqueues a job waits for its end if the caller sends no `Prefer`; 0: it answers 202 at once",
        ).default("0"),
        upload_idle: Duration = seconds(
            "API_UPLOAD_IDLE_SECONDS",
            1..=HOUR,
            "An upload from which nothing arrives for this long is given up",
        ).default("60"),
        download_idle: Duration = seconds(
            "API_DOWNLOAD_IDLE_SECONDS",
            1..=HOUR,
            "An answer of which the caller takes nothing more for this long is given up",
        ).default("60"),
        /// Of uploads and answers; 0: any.
        min_transfer_bytes_per_second: u64 = whole(
            "API_MIN_TRANSFER_BYTES_PER_SECOND",
            0..=1 << 30,
            "An upload or answer that is slower than this, while it is the caller who keeps it waiting, is given up; on average \
             over the idle time. 0: no limit",
        ).unit("bytes a second").default("1024"),
        grace: Duration = seconds(
            "API_GRACE_SECONDS",
            1..=HOUR,
            "How long running requests may go on after SIGTERM or SIGINT. systemd and Docker kill after 45 s",
        ).default("20"),
    }
}
