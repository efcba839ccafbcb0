-- What kind of failure `last_error` speaks of: a word of the provider layer, or `contents_missing`.
ALTER TABLE rag_provider_file_uploads
    ADD COLUMN error_code VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER status;
