-- Providers: connections, what this database created there, and what the processes of a fleet share about them.

-- One row per provider type, for the whole installation.
CREATE TABLE rag_provider_connections (
    id                      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, -- provider_type
    base_url                VARCHAR(1024) NULL,
    auth_type               VARCHAR(32) NOT NULL,
    credentials_enc         JSON NULL,
    token_enc               JSON NULL,
    token_expires_at        DATETIME(6) NULL,
    -- Until then one process is getting a new access token, and the others wait for it.
    token_lease_until       DATETIME(6) NULL,
    -- Over all processes; NULL: we set no limit.
    max_requests_per_second INT UNSIGNED NULL,
    -- Over all processes; NULL: we set no limit.
    max_concurrent_requests INT UNSIGNED NULL,
    is_enabled              BOOLEAN NOT NULL DEFAULT 1,
    -- An admin declares that nothing but this database works on the account behind the connection.
    is_exclusive            BOOLEAN NOT NULL DEFAULT FALSE,
    -- JSON: capabilities that were observed, each with when and how. Cleared when host or credentials change.
    learned                 LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    last_healthcheck_at     DATETIME(6) NULL,
    last_error              TEXT NULL,
    -- Of the last sync of the provider; the next that ends clears it.
    sync_error              TEXT NULL,
    -- What the account has run out of: quota_exceeded | storage_full; NULL: nothing.
    blocked_kind            VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- Which requests wait: `growth` (those that bring something to the provider), or `all`.
    blocked_scope           VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- The provider's words.
    blocked_reason          TEXT NULL,
    blocked_since           DATETIME(6) NULL,
    -- The process whose UPDATE moves this sends the one request of the fleet that finds out whether the block is over.
    blocked_next_try_at     DATETIME(6) NULL,
    blocked_tries           INT UNSIGNED NOT NULL DEFAULT 0,
    created_at              DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at              DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The copy of a file at a provider.
CREATE TABLE rag_provider_file_uploads (
    id                   CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    local_file_id        CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The name that the copy was uploaded under; NULL: not known, and assumed to be the right one.
    file_name            VARCHAR(512) COLLATE utf8mb4_bin NULL,
    -- The id in the Files API; where the provider calls a file in a store by another id (yandex), that one.
    external_file_id     VARCHAR(255) COLLATE utf8mb4_bin NULL,
    -- The id in the Files API where external_file_id is the id within a store; NULL: the two are the same.
    files_api_id         VARCHAR(255) COLLATE utf8mb4_bin NULL,
    external_uploaded_at DATETIME(6) NULL,
    content_sha256       CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- pending | uploaded | failed | deleted (it was deleted at the provider, and the row stays as a record)
    status               VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The kind of failure that last_error describes: a code of the provider layer, or `contents_missing`.
    error_code           VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    last_error           TEXT NULL,
    raw_provider_json    JSON NULL,
    -- When the provider confirmed that the copy of a `deleted` row is gone; NULL: it has not yet, or was never asked.
    deleted_at           DATETIME(6) NULL,
    created_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at           DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    CONSTRAINT uq_rpfu_provider_file UNIQUE (provider_id, local_file_id),
    KEY ix_rpfu_file (local_file_id),
    KEY ix_rpfu_external (provider_id, external_file_id),
    KEY ix_rpfu_files_api (provider_id, files_api_id),
    -- Finds old `deleted` rows of files that are gone, which are removed in the end.
    KEY ix_rpfu_status (status, updated_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The jobs that are bringing single files to providers. A job removes its row when it records how the upload ended. A row
-- that is left belongs to a job that ended without its handler; the upload is then ended on its behalf.
CREATE TABLE rag_provider_upload_jobs (
    -- The queue's job id.
    job_id        CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    local_file_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Of the present claim.
    begun_at      DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- What is attached to a vector store, or is on its way in or out: one row per (store, provider file).
CREATE TABLE rag_index_attachments (
    id                     CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    index_id               CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    external_store_id      VARCHAR(255) COLLATE utf8mb4_bin NOT NULL,
    local_file_id          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Always the id in the Files API, unlike in rag_provider_file_uploads.
    external_file_id       VARCHAR(255) COLLATE utf8mb4_bin NOT NULL,
    -- The id within the store; NULL: the same.
    external_store_file_id VARCHAR(255) COLLATE utf8mb4_bin NULL,
    content_sha256         CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    size_bytes             BIGINT UNSIGNED NOT NULL,
    -- As asked for: the link's, else the file's, else the index's; NULL is the provider's own default.
    chunking_strategy      JSON NULL,
    -- pending | attaching | in_progress | completed | failed | cancelled | detaching
    state                  VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    external_batch_id      VARCHAR(255) COLLATE utf8mb4_bin NULL,
    -- The method of the last request to attach: batch_files | batch_file_ids | single
    attach_method          VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- The next method to try (0, 1, 2 in the order above); those before it had no effect.
    next_method            TINYINT UNSIGNED NOT NULL DEFAULT 0,
    -- Of a row in state `attaching`: the answer, or the file itself, may still come until then. The request is not repeated
    -- before.
    ask_again_at           DATETIME(6) NULL,
    -- When a complete listing first lacked the file although it should have had it; NULL: none did, as far as we know.
    missed_at              DATETIME(6) NULL,
    -- As the provider reports it.
    reported_strategy      JSON NULL,
    -- 0: the provider attached the file without the strategy that was asked for; NULL: not known, or none was asked for.
    strategy_applied       BOOLEAN NULL,
    -- As the provider reports it, like the errors.
    usage_bytes            BIGINT UNSIGNED NULL,
    error_code             VARCHAR(64) NULL,
    last_error             TEXT NULL,
    -- Set when the provider accepted the attach request; indexing deadlines count from here.
    attached_at            DATETIME(6) NULL,
    -- How often the file was detached and attached again because the provider did not index it in time.
    reattached             INT UNSIGNED NOT NULL DEFAULT 0,
    created_at             DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at             DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    CONSTRAINT uq_attachments_store_file UNIQUE (external_store_id, external_file_id),
    KEY ix_attachments_index (index_id, local_file_id),
    KEY ix_attachments_file (external_file_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Calls that are about to be made, or may have been made, at a provider. The row is written before the call and removed
-- when the outcome is recorded. A row that outlives its worker tells a retry, or the cleanup, what to look for at the provider.
CREATE TABLE rag_provider_intents (
    id             CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- create_vector_store | upload_file | delete_vector_store | delete_file
    operation      VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- What the operation is about: an index id, a local file id, or (for deletions) the provider's id.
    subject        VARCHAR(255) COLLATE utf8mb4_bin NOT NULL,
    -- The index that it is for; of a deletion: the index whose own deletion waits for this one.
    index_id       CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- Of a deletion: the file whose own deletion waits for this one.
    local_file_id  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    content_sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    file_name      VARCHAR(512) COLLATE utf8mb4_bin NULL,
    size_bytes     BIGINT UNSIGNED NULL,
    -- The queue claim that works on it; a claim that is no longer live can be superseded.
    claim_token    CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- Of deletions: failures so far, and when the next try is due. Each try moves due_at first.
    tries          INT UNSIGNED NOT NULL DEFAULT 0,
    due_at         DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_error     TEXT NULL,
    created_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    CONSTRAINT uq_intents_subject UNIQUE (provider_id, operation, subject),
    KEY ix_intents_index (index_id, operation),
    KEY ix_intents_due (provider_id, operation, due_at),
    KEY ix_intents_file (local_file_id, operation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The ownership ledger: everything that this database created at a provider, or may have created. What has no row here is
-- not ours, whatever its name or tag.
CREATE TABLE rag_provider_ownership (
    -- The id of the intent that it was created for; a vector store carries it as its tag.
    id             CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- vector_store | file
    kind           VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- NULL: unconfirmed. The request was sent, and no answer came.
    external_id    VARCHAR(255) COLLATE utf8mb4_bin NULL,
    -- Of an unconfirmed upload: a file of this name and size may be its copy.
    file_name      VARCHAR(512) COLLATE utf8mb4_bin NULL,
    size_bytes     BIGINT UNSIGNED NULL,
    -- Of an unconfirmed upload: the local file and its content, for the report on files that may be its copy.
    file_id        CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    content_sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- When it was requested, and when its id became known or the upload was given up. The provider created it between the
    -- two, or soon after.
    begun_at       DATETIME(6) NOT NULL,
    resolved_at    DATETIME(6) NULL,
    -- When the provider confirmed that it is gone. An older listing may still show it.
    deleted_at     DATETIME(6) NULL,
    CONSTRAINT uq_ownership_external UNIQUE (provider_id, kind, external_id),
    KEY ix_ownership_deleted (kind, deleted_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- When requests may be sent to a provider. Times here and in the next two tables are microseconds since 1970 UTC by the
-- database's clock.
CREATE TABLE rag_provider_budgets (
    provider_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    -- When the first request may be sent that nobody has reserved yet.
    next_us         BIGINT NOT NULL DEFAULT 0,
    -- Until then no process sends anything, because the provider asked for a pause.
    paused_until_us BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- The concurrent requests of a fleet at a provider: one row for each request that max_concurrent_requests allows.
CREATE TABLE rag_provider_slots (
    provider_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slot        INT UNSIGNED    NOT NULL,
    -- Drawn anew for every request.
    holder      BIGINT UNSIGNED NOT NULL DEFAULT 0,
    -- Until then the slot is taken. Its holder renews it; the slot of a killed process becomes free.
    until_us    BIGINT          NOT NULL DEFAULT 0,
    PRIMARY KEY (provider_id, slot)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Rate limits without a Retry-After: the fleet backs off from that operation alone, so that other work goes on.
CREATE TABLE rag_provider_backoffs (
    provider_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    operation   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- How often in a row; a success halves it.
    streak      INT UNSIGNED NOT NULL DEFAULT 0,
    until_us    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (provider_id, operation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
