-- By what the folder of file contents (FILES_ROOT) is recognised: its marker file holds this id.
CREATE TABLE rag_files_root (
    -- There is one.
    slot       TINYINT UNSIGNED NOT NULL DEFAULT 1,
    marker     CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (slot),
    CONSTRAINT rag_files_root_is_one CHECK (slot = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
