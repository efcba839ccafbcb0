//! Where things are kept: the database, the queue in it, and the files.

use std::path::PathBuf;
use std::time::Duration;

use super::section;
use crate::database_uri::DatabaseUri;
use crate::setting::{choice, text, whole};
use crate::values::{DAY, HOUR, database_uri, days, milliseconds, seconds, seconds_or_off};

section! {
    DatabaseSettings in "database" {
        uri: DatabaseUri = database_uri(
            "DATABASE_URI",
            "Required (Docker Compose makes it). MariaDB 10.6 or newer, e.g. mysql://user:password@host:3306/rag; also \
             mariadb:// and SQLAlchemy forms such as \
             mysql+pymysql://. A socket: ?socket=/run/mysqld/mysqld.sock. TLS: \
             ?ssl_ca=/path/ca.pem&ssl_mode=VERIFY_IDENTITY (deploy/README.md has all options)",
        ),
        max_connections: u32 = whole(
            "DATABASE_MAX_CONNECTIONS",
            2..=10_000,
            "Connections each process may hold open",
        ).default("16"),
    }
}

section! {
    QueueSettings in "queue" {
        lease: Duration = seconds(
            "QUEUE_LEASE_SECONDS",
            1..=HOUR,
            "A worker that has sent no heartbeat for this long loses its jobs",
        ).default("30"),
        poll: Duration = milliseconds(
            "QUEUE_POLL_MS",
            2..=1000,
            "How often an idle worker's database looks for jobs that other processes enqueued (soon after a job six times as often); one statement a second",
        ).default("30"),
        retention: Duration = days(
            "QUEUE_RETENTION_DAYS",
            1..=3650,
            "Finished jobs are deleted after this many days",
        ).default("14"),
    }
}

section! {
    FilesSettings in "files" {
        root: PathBuf = text(
            "FILES_ROOT",
            "Folder of the file contents; the API and all workers must see the same one: with several machines, a shared mount. \
             Docker Compose and the image set /var/lib/rag-indexer/files, which is also right for the systemd units",
        ).map(PathBuf::from).default("./data/files"),
        /// How often disk and rows are compared; `None`: never.
        sweep_every: Option<Duration> = seconds_or_off(
            "FILES_SWEEP_EVERY_SECONDS",
            31 * DAY,
            "How often one worker compares FILES_ROOT with the rows, for what killed processes left there; 0: never",
        ).default("21600"),
        /// What no row names is deleted, and not only reported.
        sweep_deletes: bool = choice(
            "FILES_SWEEP",
            &[("report", false), ("delete", true)],
            "What becomes of contents that no row names: report or delete. Files of other names are never touched",
        ).default("delete"),
        sweep_min_age: Duration = seconds(
            "FILES_SWEEP_MIN_AGE_SECONDS",
            1..=365 * DAY,
            "What is younger is no leftover yet: it may be an upload under way. Must be longer than any upload takes",
        ).default("86400"),
        sweep_deletion_threshold_percent: u64 = whole(
            "FILES_SWEEP_DELETION_THRESHOLD_PERCENT",
            0..=100,
            "A sweep that would delete more than this share of the contents (and more than a hundred) deletes nothing",
        ).unit("percent").default("20"),
    }
}
