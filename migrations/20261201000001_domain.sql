-- What callers have: indexes, files, which file belongs to which index, and the progress of builds.
--
-- Of all migrations: there are no FOREIGN KEYs; links are logical, and every write goes through shared/db.
-- Times are UTC. Ids are uuid v4 as text.

CREATE TABLE rag_indexes (
    id                   CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    -- utf8mb4_bin: a domain is an opaque key, and `a` is not `A`.
    domain_id            VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
    name                 VARCHAR(255) NOT NULL,
    description          TEXT NULL,
    provider_type        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The vector store at the provider; NULL until the first build created one.
    external_id          VARCHAR(255) COLLATE utf8mb4_bin NULL,
    chunking_strategy    JSON NULL,
    expires_after        JSON NULL,
    metadata             JSON NULL,
    -- name, expires_after and metadata as the provider last accepted them for the store; NULL: not known.
    pushed_settings      JSON NULL,
    -- Why the provider did not accept them.
    settings_error       TEXT NULL,
    -- not_indexed | in_progress | done | failed
    indexing_status      VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'not_indexed',
    -- Start of the last indexing attempt.
    indexed_at           DATETIME(6) NULL,
    -- The job of the build that began last; its row in rag_index_builds may be gone.
    last_job_id          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- When a job last heard from the provider how the index's files are doing.
    provider_seen_at     DATETIME(6) NULL,
    -- When the provider first answered that it does not know the store, or its listing lacked it; NULL: the store was
    -- there when last asked for.
    store_missed_at      DATETIME(6) NULL,
    -- When the store was first seen expired; NULL: it was not.
    store_expired_at     DATETIME(6) NULL,
    -- Of the last build.
    last_error           TEXT NULL,
    -- Of the last sync of the index; the next that succeeds clears it.
    sync_error           TEXT NULL,
    -- Of the last search, or the last live listing of its files; the next that succeeds clears it.
    query_error          TEXT NULL,
    -- Grows with each change to the index's links and to its own chunking strategy. Counts of files that the API keeps for
    -- a moment are out of date when this has grown. What workers do does not change it.
    composition_revision BIGINT UNSIGNED NOT NULL DEFAULT 0,
    -- Set when deletion was asked for: the index is hidden at once, and the row is removed when the provider is clean.
    deleted_at           DATETIME(6) NULL,
    created_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY ix_indexes_domain (domain_id, created_at, id),
    KEY ix_indexes_external (provider_type, external_id),
    KEY ix_indexes_deleted (deleted_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

CREATE TABLE rag_files (
    id                   CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    domain_id            VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
    file_name            VARCHAR(512) COLLATE utf8mb4_bin NOT NULL,
    -- MIME type.
    file_type            VARCHAR(255) NOT NULL,
    size_bytes           BIGINT UNSIGNED NOT NULL,
    sha256               CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Relative to FILES_ROOT.
    local_path           VARCHAR(1024) COLLATE utf8mb4_bin NOT NULL,
    tags                 JSON NULL,
    notes                TEXT NULL,
    chunking_strategy    JSON NULL,
    -- Only for files that were imported from a provider.
    external_file_id     VARCHAR(255) COLLATE utf8mb4_bin NULL,
    external_uploaded_at DATETIME(6) NULL,
    -- Set when deletion was asked for: the file is hidden at once, and the row is removed when its copies at providers and
    -- its contents on disk are gone.
    deleted_at           DATETIME(6) NULL,
    created_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY ix_files_domain (domain_id, created_at, id),
    KEY ix_files_external (external_file_id),
    -- Count and sum of a domain's files without reading the rows themselves.
    KEY ix_files_domain_size (domain_id, size_bytes),
    KEY ix_files_deleted (deleted_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Which files an index is made of: the only place where that is decided.
CREATE TABLE rag_index_files (
    index_id          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    file_id           CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    include_order     INT UNSIGNED NOT NULL DEFAULT 0,
    -- Overrides the file's strategy within this index.
    chunking_strategy JSON NULL,
    created_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (index_id, file_id),
    KEY ix_index_files_file (file_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Progress of one build; the job itself is the queue's.
CREATE TABLE rag_index_builds (
    -- The queue's job id.
    job_id          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    index_id        CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    domain_id       VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
    -- ensure_vector_store | upload_files | attach_files | await_indexing | finish
    step            VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The last complete listing of the store.
    listed_at       DATETIME(6) NULL,
    -- How often the verification at the end of the build found something to repair.
    repair_rounds   INT UNSIGNED NOT NULL DEFAULT 0,
    files_total     INT UNSIGNED NOT NULL DEFAULT 0,
    files_uploaded  INT UNSIGNED NOT NULL DEFAULT 0,
    files_attached  INT UNSIGNED NOT NULL DEFAULT 0,
    files_completed INT UNSIGNED NOT NULL DEFAULT 0,
    files_failed    INT UNSIGNED NOT NULL DEFAULT 0,
    bytes_total     BIGINT UNSIGNED NOT NULL DEFAULT 0,
    bytes_uploaded  BIGINT UNSIGNED NOT NULL DEFAULT 0,
    started_at      DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    finished_at     DATETIME(6) NULL,
    updated_at      DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY ix_builds_index (index_id, started_at),
    -- For the builds that are not finished, and for those that finished long ago.
    KEY ix_builds_finished (finished_at, job_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Identifies the folder of file contents (FILES_ROOT): its marker file holds this id. No row: no folder was taken into use
-- yet.
CREATE TABLE rag_files_root (
    -- There is at most one row.
    slot       TINYINT UNSIGNED NOT NULL DEFAULT 1,
    marker     CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (slot),
    CONSTRAINT rag_files_root_is_one CHECK (slot = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The sweep of FILES_ROOT: how it recognises its own marker there, and what the last comparison of disk and rows found.
-- There is exactly one row.
CREATE TABLE rag_files_sweep (
    only_row    TINYINT UNSIGNED NOT NULL PRIMARY KEY DEFAULT 1,
    -- Stands in the sweep's marker in FILES_ROOT.
    database_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Stands in the marker beside the id and changes with each sweep, so a copy or an older state of this database, or of
    -- the folder, has another one. NULL: no folder was claimed yet.
    stamp       CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- The stamp that is about to be written into the marker.
    next_stamp  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    swept_at    DATETIME(6) NULL,
    report      JSON NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

INSERT INTO rag_files_sweep (database_id) VALUES (UUID());
