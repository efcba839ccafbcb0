-- Deletion: what is hidden until providers and disk are clean, what was made at a provider and by what that is known, and
-- when a deletion is tried again.

-- Set when deletion was asked for: hidden at once, the row goes when its copies and contents are gone.
ALTER TABLE rag_files
    ADD COLUMN deleted_at DATETIME(6) NULL AFTER external_uploaded_at,
    ADD KEY ix_files_deleted (deleted_at);
ALTER TABLE rag_indexes
    ADD KEY ix_indexes_deleted (deleted_at);

-- Everything that we made at a provider, or may have made: what is not in here is not ours, whatever it looks like.
CREATE TABLE rag_provider_traces (
    -- Of the intent that it was made for; a vector store carries it as its tag.
    id          CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- vector_store | file
    kind        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- NULL: it was asked for, and never heard of.
    external_id VARCHAR(255) COLLATE utf8mb4_bin NULL,
    -- Of a file that was never heard of: by these it is known if it comes to light after all.
    file_name   VARCHAR(512) COLLATE utf8mb4_bin NULL,
    size_bytes  BIGINT UNSIGNED NULL,
    -- When it was asked for, and when it was heard of or looked for in vain: the provider made it between the two, or
    -- soon after.
    begun_at    DATETIME(6) NOT NULL,
    settled_at  DATETIME(6) NULL,
    -- When the provider confirmed that it is gone: an older listing may still show it.
    deleted_at  DATETIME(6) NULL,
    CONSTRAINT uq_traces_external UNIQUE (provider_id, kind, external_id),
    KEY ix_traces_deleted (kind, deleted_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Stores of which the rows speak now were made by earlier versions, each for its index; so were the copies that are not
-- imports. Stores that are known by nothing but their tag stay unproven.
INSERT IGNORE INTO rag_provider_traces (id, provider_id, kind, external_id, begun_at, settled_at)
SELECT UUID(), provider_type, 'vector_store', external_id, created_at, updated_at
FROM rag_indexes WHERE external_id IS NOT NULL;
INSERT IGNORE INTO rag_provider_traces (id, provider_id, kind, external_id, begun_at, settled_at)
SELECT UUID(), u.provider_id, 'file', COALESCE(u.files_api_id, u.external_file_id), u.created_at, u.updated_at
FROM rag_provider_file_uploads u JOIN rag_files f ON f.id = u.local_file_id
WHERE u.external_file_id IS NOT NULL AND u.raw_provider_json IS NOT NULL AND f.external_file_id IS NULL;

ALTER TABLE rag_provider_intents
    -- Deletions: whose own deletion waits for this one, an index's (index_id) or a file's.
    ADD COLUMN local_file_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER index_id,
    -- Deletions: failures so far, and when the next try is due. Whoever tries moves it on first.
    ADD COLUMN tries INT UNSIGNED NOT NULL DEFAULT 0 AFTER claim_token,
    ADD COLUMN due_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) AFTER tries,
    ADD KEY ix_intents_due (provider_id, operation, due_at),
    ADD KEY ix_intents_file (local_file_id, operation);

-- How often a file was taken out and put in again because the provider did not index it in time.
ALTER TABLE rag_index_attachments
    ADD COLUMN reattached INT UNSIGNED NOT NULL DEFAULT 0 AFTER attached_at;

-- For the builds that are not over, and for those that are long over.
ALTER TABLE rag_index_builds
    ADD KEY ix_builds_finished (finished_at, job_id);
