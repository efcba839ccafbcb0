-- Counts of an index's files are kept for a moment by whoever answers with them. These tell when a caller changed what they
-- follow from; what workers do is not noted here.

ALTER TABLE rag_indexes
    -- Grows with each change to the index's links and its own chunking strategy.
    ADD COLUMN composition_revision BIGINT UNSIGNED NOT NULL DEFAULT 0;

-- By the hash of a domain: grows with each change to contents, strategies and copies of its files.
CREATE TABLE rag_file_revisions (
    slot     SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
    revision BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB;

INSERT INTO rag_file_revisions (slot) SELECT slot FROM rag_quota_locks;
