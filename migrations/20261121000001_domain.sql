-- The local truth: indexes, files, what belongs to what, and what we did at the providers.
-- No FOREIGN KEYs: links are logical, and every write goes through shared/db.
-- Times are UTC. Ids are uuid v4 as text.

CREATE TABLE rag_indexes (
    id                CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    -- utf8mb4_bin: a domain is an opaque key, and `a` is not `A`.
    domain_id         VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
    name              VARCHAR(255) NOT NULL,
    description       TEXT NULL,
    provider_type     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The vector store at the provider; NULL until the first build made one.
    external_id       VARCHAR(255) COLLATE utf8mb4_bin NULL,
    chunking_strategy JSON NULL,
    expires_after     JSON NULL,
    metadata          JSON NULL,
    -- not_indexed | in_progress | done | failed
    indexing_status   VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'not_indexed',
    -- Start of the last indexing attempt.
    indexed_at        DATETIME(6) NULL,
    last_error        TEXT NULL,
    -- Set when deletion was asked for: hidden at once, the row goes when the provider is clean.
    deleted_at        DATETIME(6) NULL,
    created_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY ix_indexes_domain (domain_id, created_at, id),
    KEY ix_indexes_external (provider_type, external_id)
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
    created_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY ix_files_domain (domain_id, created_at, id),
    KEY ix_files_external (external_file_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The truth about an index's composition.
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

-- One row per provider type, for the whole installation.
CREATE TABLE rag_provider_connections (
    id                  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, -- provider_type
    base_url            VARCHAR(1024) NULL,
    auth_type           VARCHAR(32) NOT NULL,
    credentials_enc     JSON NULL,
    token_enc           JSON NULL,
    token_expires_at    DATETIME(6) NULL,
    is_enabled          BOOLEAN NOT NULL DEFAULT 1,
    last_healthcheck_at DATETIME(6) NULL,
    last_error          TEXT NULL,
    created_at          DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at          DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

CREATE TABLE rag_provider_file_uploads (
    id                   CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    local_file_id        CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    external_file_id     VARCHAR(255) COLLATE utf8mb4_bin NULL,
    external_uploaded_at DATETIME(6) NULL,
    content_sha256       CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- pending | uploaded | failed | deleted
    status               VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    last_error           TEXT NULL,
    raw_provider_json    JSON NULL,
    created_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    CONSTRAINT uq_rpfu_provider_file UNIQUE (provider_id, local_file_id),
    KEY ix_rpfu_file (local_file_id),
    KEY ix_rpfu_external (provider_id, external_file_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- What is about to happen, or may have happened, at a provider. The row is written before the call and goes when its
-- outcome is recorded; a row that outlives its worker is what a retry adopts from, or a reconciler cleans up after.
CREATE TABLE rag_provider_intents (
    id             CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- create_vector_store | upload_file | delete_vector_store | delete_file
    operation      VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- What the operation is about: an index id, a local file id, or (for deletions) the provider's id.
    subject        VARCHAR(255) COLLATE utf8mb4_bin NOT NULL,
    index_id       CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    content_sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    file_name      VARCHAR(512) COLLATE utf8mb4_bin NULL,
    size_bytes     BIGINT UNSIGNED NULL,
    -- The queue claim that works on it; a claim that is no longer live can be superseded.
    claim_token    CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    last_error     TEXT NULL,
    created_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    CONSTRAINT uq_intents_subject UNIQUE (provider_id, operation, subject),
    KEY ix_intents_index (index_id, operation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- What hangs in a vector store, or is on its way in or out: one row per (store, provider file).
CREATE TABLE rag_index_attachments (
    id                CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    index_id          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    external_store_id VARCHAR(255) COLLATE utf8mb4_bin NOT NULL,
    local_file_id     CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    external_file_id  VARCHAR(255) COLLATE utf8mb4_bin NOT NULL,
    content_sha256    CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    size_bytes        BIGINT UNSIGNED NOT NULL,
    -- As asked for: the link's, else the file's, else the index's; NULL is the provider's own default.
    chunking_strategy JSON NULL,
    -- pending | in_progress | completed | failed | cancelled | detaching
    state             VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    external_batch_id VARCHAR(255) COLLATE utf8mb4_bin NULL,
    -- As the provider reports them.
    reported_strategy JSON NULL,
    usage_bytes       BIGINT UNSIGNED NULL,
    error_code        VARCHAR(64) NULL,
    last_error        TEXT NULL,
    -- Set when the provider accepted the attach; indexing deadlines count from here.
    attached_at       DATETIME(6) NULL,
    created_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at        DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    CONSTRAINT uq_attachments_store_file UNIQUE (external_store_id, external_file_id),
    KEY ix_attachments_index (index_id, local_file_id),
    KEY ix_attachments_file (external_file_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Progress of one build; the job itself is the queue's.
CREATE TABLE rag_index_builds (
    -- The queue's job id.
    job_id          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    index_id        CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    domain_id       VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
    -- ensure_vector_store | upload_files | attach_files | await_indexing | finish
    step            VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
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
    KEY ix_builds_index (index_id, started_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Callers of the API. Keys are random, so a plain SHA-256 of one is enough to find and check it.
CREATE TABLE rag_api_keys (
    id           CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    name         VARCHAR(128) NOT NULL,
    -- service | admin
    role         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Domains a service key may name in X-Domain-Id; NULL is any.
    domains      JSON NULL,
    key_sha256   CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    created_at   DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    revoked_at   DATETIME(6) NULL,
    CONSTRAINT uq_api_keys_hash UNIQUE (key_sha256)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
