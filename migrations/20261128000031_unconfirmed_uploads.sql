-- What an upload was of whose outcome nobody heard: for the report on files that may be its copy.
ALTER TABLE rag_provider_traces
    ADD COLUMN file_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER size_bytes,
    ADD COLUMN content_sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER file_id;
