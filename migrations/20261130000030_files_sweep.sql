-- The sweep of FILES_ROOT: by what its marker there is known, and what the last comparison of disk and rows has found. One
-- row.
CREATE TABLE rag_files_sweep (
    only_row    TINYINT UNSIGNED NOT NULL PRIMARY KEY DEFAULT 1,
    -- Stands in the sweep's marker in FILES_ROOT.
    database_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- What the marker says beside the id, changed by each sweep: a copy or an older state of this database, or of the
    -- folder, is known by another one. NULL: no folder was claimed yet.
    stamp       CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- About to be written into the marker.
    next_stamp  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    swept_at    DATETIME(6) NULL,
    report      JSON NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

INSERT INTO rag_files_sweep (database_id) VALUES (UUID());
