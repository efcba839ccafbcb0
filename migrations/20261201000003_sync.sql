-- Syncs: how far a long one has come, which items it works through and what it found; the latest poll of each index's
-- store; and the schedule of recurring work.

-- One run of a sync over many things: of a provider, or of a domain's indexes.
CREATE TABLE rag_sync_runs (
    -- The queue's job id.
    job_id      CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    -- Which of the run's phases it is in, by the worker's names.
    phase       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Where the phase continues: a cursor of the provider's, or an id of ours.
    position    VARCHAR(1024) COLLATE utf8mb4_bin NULL,
    -- JSON: numbers that are reported. Written in the transactions of what they count, so they are exact after a crash.
    counts      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    items_total INT UNSIGNED NOT NULL DEFAULT 0,
    items_done  INT UNSIGNED NOT NULL DEFAULT 0,
    started_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    finished_at DATETIME(6) NULL,
    updated_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY ix_sync_runs_updated (updated_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The items of a run, which it works through one by one: stores of a provider, or indexes of a domain.
CREATE TABLE rag_sync_items (
    job_id   CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The store's id at the provider, or the index's id.
    item     VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
    -- waiting | postponed | asked | done | failed | skipped | gone
    state    VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- In the order of the listing.
    position INT UNSIGNED NOT NULL,
    -- JSON: the store as it was listed, or the job that syncs the index.
    detail   MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    PRIMARY KEY (job_id, item),
    KEY ix_sync_items_state (job_id, state, position)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- What a run found: the rows of its report, which may be of any length. They also tell which files are done.
CREATE TABLE rag_sync_findings (
    job_id  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- file_results | files_byte_mismatches | errors | …
    kind    VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    subject VARCHAR(600) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
    -- JSON. It may quote a provider's long texts.
    detail  MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    PRIMARY KEY (job_id, kind, subject)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The latest poll of an index's store.
CREATE TABLE rag_store_polls (
    index_id  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    polled_at DATETIME(6) NOT NULL,
    -- JSON: what was found.
    report    TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Recurring work of the fleet. The process whose UPDATE moves due_at starts the work.
CREATE TABLE rag_schedules (
    name   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    due_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
