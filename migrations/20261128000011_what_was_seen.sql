-- What was seen at a provider, as opposed to what was asked of it.

-- JSON: what this connection was seen to do or not to do, each fact with when and how. Forgotten when host or credentials change.
ALTER TABLE rag_provider_connections
    ADD COLUMN learned LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL;

ALTER TABLE rag_index_attachments
    -- The way in that was taken last: batch_files | batch_file_ids | single
    ADD COLUMN attach_way VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER external_batch_id,
    -- Ways before this one (0, 1, 2 in the order above) were taken in vain.
    ADD COLUMN next_way TINYINT UNSIGNED NOT NULL DEFAULT 0 AFTER attach_way,
    -- Of a row in state attaching: until then the answer, or the file itself, may still come. It is not asked for again before.
    ADD COLUMN ask_again_at DATETIME(6) NULL AFTER next_way,
    -- When a complete listing first lacked the file although it should have had it; NULL: it does not, as far as we know.
    ADD COLUMN missed_at DATETIME(6) NULL AFTER ask_again_at;

ALTER TABLE rag_indexes
    -- When the provider first answered that it does not know the store, or its listing lacked it; NULL: it was there when
    -- last asked for.
    ADD COLUMN store_missed_at DATETIME(6) NULL;

ALTER TABLE rag_index_builds
    -- The last complete listing of the store.
    ADD COLUMN listed_at DATETIME(6) NULL AFTER step,
    -- How often the verification before the end found something to mend.
    ADD COLUMN repair_rounds INT UNSIGNED NOT NULL DEFAULT 0 AFTER listed_at;
