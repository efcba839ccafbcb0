-- What a build compares beside files: the settings of a store, the names of files, and whether the store has expired.

ALTER TABLE rag_indexes
    -- name, expires_after and metadata as the store was last given them; NULL: not known.
    ADD COLUMN pushed_settings JSON NULL,
    -- Why the provider did not take them.
    ADD COLUMN settings_error TEXT NULL,
    -- When the store was first seen expired; NULL: it was not.
    ADD COLUMN store_expired_at DATETIME(6) NULL;

-- The name that the copy was uploaded under; NULL: not known, and taken for the right one.
ALTER TABLE rag_provider_file_uploads
    ADD COLUMN file_name VARCHAR(512) COLLATE utf8mb4_bin NULL AFTER local_file_id;

UPDATE rag_provider_file_uploads u JOIN rag_files f ON f.id = u.local_file_id
   SET u.file_name = f.file_name, u.updated_at = u.updated_at;
