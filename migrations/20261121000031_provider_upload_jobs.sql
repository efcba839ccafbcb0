-- The jobs that are bringing single files to providers. A job's row goes when the job ends the copy's row itself; one that
-- is left is a job that ended without its handler, and the copy's row is ended on its behalf.

CREATE TABLE rag_provider_upload_jobs (
    -- The queue's job id.
    job_id        CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    provider_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    local_file_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Of the present claim.
    begun_at      DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
