-- What the API limits and tells: quotas of domains, and when the provider was last looked at.

-- Locks for the quotas of domains, by hash: whoever adds to a domain's files under a quota has its slot until the commit,
-- so that two at once cannot both take the last place. These rows never change.
CREATE TABLE rag_quota_locks (
    slot SMALLINT UNSIGNED NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

INSERT INTO rag_quota_locks (slot) SELECT slot FROM queue_key_locks WHERE slot < 256;

-- Count and sum of a domain's files without reading the rows themselves.
ALTER TABLE rag_files ADD KEY ix_files_domain_size (domain_id, size_bytes);

-- When a job last heard from the provider how the index's files fare.
ALTER TABLE rag_indexes ADD COLUMN provider_seen_at DATETIME(6) NULL AFTER indexed_at;
