//! The worker, and how it builds.

use std::net::SocketAddr;
use std::time::Duration;

use super::section;
use crate::setting::{choice, whole};
use crate::values::{CONNECTIONS, DAY, HOUR, address, milliseconds, seconds, seconds_or_off};

section! {
    WorkerSettings in "worker" {
        listen: SocketAddr = address(
            "WORKER_LISTEN",
            "Address and port of the worker's /health and /metrics; the systemd template sets it for each worker",
        ).default("127.0.0.1:9091"),
        header_timeout: Duration = seconds(
            "WORKER_HEADER_TIMEOUT_SECONDS",
            1..=HOUR,
            "A connection to these on which no whole head of a request arrives for this long is closed",
        ).default("30"),
        max_connections: usize = whole(
            "WORKER_MAX_CONNECTIONS",
            CONNECTIONS,
            "Connections to these that a worker holds open, but never more than half of its file descriptors",
        ).default("256"),
        /// `None`: half of all.
        max_connections_per_address: Option<usize> = whole(
            "WORKER_MAX_CONNECTIONS_PER_ADDRESS",
            CONNECTIONS,
            "Of those, the connections from one address. Not set: half of all",
        ).optional(),
        concurrency: usize = whole(
            "WORKER_CONCURRENCY",
            1..=1024,
            "Jobs a worker runs at once",
        ).default("8"),
        grace: Duration = seconds(
            "WORKER_GRACE_SECONDS",
            1..=HOUR,
            "How long a worker waits for its jobs after SIGTERM before it releases them. systemd and Docker kill after 45 s",
        ).default("20"),
        build_upload_concurrency: usize = whole(
            "BUILD_UPLOAD_CONCURRENCY",
            1..=64,
            "At most so many files go up at once from one worker process to one connection, over all its builds. How many do \
             follows the provider's answers",
        ).default("32"),
        build_poll_min: Duration = milliseconds(
            "BUILD_POLL_MIN_MS",
            1..=3_600_000,
            "First pause between two polls of the provider while it indexes",
        ).default("100"),
        build_poll_max: Duration = milliseconds(
            "BUILD_POLL_MAX_MS",
            1..=3_600_000,
            "Longest pause between two polls of the provider",
        ).default("15000"),
        build_indexing_timeout: Duration = seconds(
            "BUILD_INDEXING_TIMEOUT_SECONDS",
            1..=7 * DAY,
            "A file that the provider has not indexed after this long is taken out of the store and put in again, or has failed",
        ).default("3600"),
        build_reattach_times: u32 = whole(
            "BUILD_REATTACH_TIMES",
            0..=100,
            "How often a file that was not indexed in time, or with which the provider's server failed, is put in again before \
             it has failed",
        ).default("1"),
        build_deadline: Duration = seconds(
            "BUILD_DEADLINE_SECONDS",
            1..=31 * DAY,
            "Files that the provider has not indexed so long after the start of a build have failed",
        ).default("86400"),
        build_max_attempts: u32 = whole(
            "BUILD_MAX_ATTEMPTS",
            1..=1000,
            "Real failures, without progress in between, after which a build is given up",
        ).default("8"),
        deletions_every: Duration = seconds(
            "DELETIONS_EVERY_SECONDS",
            1..=DAY,
            "How often a worker carries out deletions that wait at providers, and gives deleted indexes and files without a job \
             another one",
        ).default("60"),
        /// `None`: never by itself.
        orphans_every: Option<Duration> = seconds_or_off(
            "ORPHANS_EVERY_SECONDS",
            31 * DAY,
            "How often every provider is searched for what we made there and no row references; 0: never by itself",
        ).default("0"),
        /// What a search by itself finds is deleted, and not only reported.
        orphans_delete: bool = choice(
            "ORPHANS_MODE",
            &[("report", false), ("delete", true)],
            "What becomes of what such a search finds: report or delete",
        ).default("report"),
        orphans_min_age: Duration = seconds(
            "ORPHANS_MIN_AGE_SECONDS",
            1..=31 * DAY,
            "What is younger is no orphan yet: it may be work in flight",
        ).default("3600"),
    }
    where build_poll_min <= build_poll_max
}
