-- The tables of the job queue `apalis-mariadb`. There are no FOREIGN KEYs; every write goes through that crate.
-- Ids are uuid v7 as 16 bytes: `SELECT LOWER(HEX(id))`, or CAST(id AS UUID) from MariaDB 10.7 on.

CREATE TABLE queue_jobs (
    id               BINARY(16) NOT NULL PRIMARY KEY,
    kind             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state            ENUM('scheduled', 'ready', 'blocked', 'running', 'done', 'failed', 'cancelled')
                     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The position within the state, in microseconds since 1970 UTC. One column, so that one index serves claim,
    -- promotion, rescue and retention, each in its own order:
    --   scheduled: when it is due; ready, blocked: rank_us; running: when the lease ends; finished: when it finished.
    -- To read it: FROM_UNIXTIME(order_us / 1e6).
    order_us         BIGINT NOT NULL,
    -- Claim order: when it was enqueued (or first due), less one minute per point of priority. Never changes.
    rank_us          BIGINT NOT NULL,
    -- Counts claims; the claim's number is the fence: a write for an older claim finds no row.
    claim_no         INT UNSIGNED NOT NULL DEFAULT 0,
    -- queue_workers.id of the latest claim.
    worker_id        BINARY(16) NULL,
    -- Real failures: no snoozes, shutdowns or lost leases.
    attempts         INT UNSIGNED NOT NULL DEFAULT 0,
    max_attempts     INT UNSIGNED NOT NULL,
    lease_losses     INT UNSIGNED NOT NULL DEFAULT 0,
    snoozes          INT UNSIGNED NOT NULL DEFAULT 0,
    cancel_requested BOOLEAN NOT NULL DEFAULT 0,
    priority         SMALLINT NOT NULL DEFAULT 0,
    -- Opaque; for listing. (NOPAD collations: `a` and `a ` are two keys.)
    tenant           VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NULL,
    unique_key       VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NULL,
    concurrency_key  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NULL,
    trace_context    VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- JSON texts, read and written whole. No JSON type: its check costs time and refuses deep nesting.
    payload          LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    output           LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    last_error       MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    snooze_reason    TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- JSON array of ended claims, oldest first, bounded.
    history          LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    created_at       DATETIME(6) NOT NULL,
    started_at       DATETIME(6) NULL,
    claimed_at       DATETIME(6) NULL,
    finished_at      DATETIME(6) NULL,
    KEY ix_queue_jobs_order (state, kind, order_us, id),
    KEY ix_queue_jobs_tenant (tenant, id),
    -- The jobs of a concurrency key, newest first. Neither column changes in a job's life, so claims and ends do not touch
    -- this index.
    KEY ix_queue_jobs_concurrency (concurrency_key, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- One row per unique key of an active job; gone when the job is over. A table of its own, so that an enqueue which
-- finds the key taken never waits for the lock that a running handler holds on the job's row.
CREATE TABLE queue_unique_keys (
    kind       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    unique_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
    job_id     BINARY(16) NOT NULL,
    PRIMARY KEY (kind, unique_key)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Who has a concurrency key. Also the lock that makes taking and passing it on one at a time.
CREATE TABLE queue_concurrency_keys (
    concurrency_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL PRIMARY KEY,
    job_id          BINARY(16) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Who waits for one: exactly the blocked jobs, in claim order.
CREATE TABLE queue_blocked (
    concurrency_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
    rank_us         BIGINT NOT NULL,
    job_id          BINARY(16) NOT NULL,
    PRIMARY KEY (concurrency_key, rank_us, job_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Locks for keys, by hash: slots 0 to 511 for concurrency keys, 512 to 1023 for unique keys. These rows never change;
-- they are what transactions wait for, because waiting for rows that come and go ends in deadlocks.
CREATE TABLE queue_key_locks (
    slot SMALLINT UNSIGNED NOT NULL PRIMARY KEY
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

INSERT INTO queue_key_locks (slot)
WITH digits (digit) AS (
    SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5
    UNION ALL SELECT 6 UNION ALL SELECT 7
)
SELECT ((a.digit * 8 + b.digit) * 8 + c.digit) * 2 + d.digit
FROM digits AS a CROSS JOIN digits AS b CROSS JOIN digits AS c CROSS JOIN digits AS d WHERE d.digit < 2;

-- Kinds that no worker may claim at present; no row: not paused.
CREATE TABLE queue_paused_kinds (
    kind      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    paused_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Running worker processes, for operators and for draining. Whether a job is still worked on is decided by its lease alone.
CREATE TABLE queue_workers (
    id         BINARY(16) NOT NULL PRIMARY KEY,
    host       VARCHAR(255) NOT NULL,
    pid        INT UNSIGNED NOT NULL,
    -- JSON object: kind -> how many at a time.
    kinds      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- Set by an operator: takes no further jobs.
    draining   BOOLEAN NOT NULL DEFAULT 0,
    started_at DATETIME(6) NOT NULL,
    seen_at    DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Maintenance that one process at a time does: the process that moves due_us on does it this time.
CREATE TABLE queue_tasks (
    task   VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    due_us BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

INSERT INTO queue_tasks (task, due_us) VALUES ('promote', 0), ('rescue', 0), ('prune', 0), ('count', 0);

-- Jobs per kind and state as the latest count found them; counting a million rows at every scrape would cost too much.
CREATE TABLE queue_counts (
    kind       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state      ENUM('scheduled', 'ready', 'blocked', 'running', 'done', 'failed', 'cancelled')
               CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    jobs       BIGINT UNSIGNED NOT NULL,
    counted_at DATETIME(6) NOT NULL,
    PRIMARY KEY (kind, state)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
