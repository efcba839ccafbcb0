-- A copy whose bytes were found equal to ours need not be downloaded and compared again.

ALTER TABLE rag_provider_file_uploads
    -- The file in the Files API whose bytes were last found equal to ours, and their hash. Another file there, or other
    -- contents here, make it void; a comparison that finds a difference clears it. NULL: none was found equal.
    ADD COLUMN compared_file_id VARCHAR(255) COLLATE utf8mb4_bin NULL AFTER raw_provider_json,
    ADD COLUMN compared_sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER compared_file_id,
    -- When they were first found so.
    ADD COLUMN compared_at DATETIME(6) NULL AFTER compared_sha256;
