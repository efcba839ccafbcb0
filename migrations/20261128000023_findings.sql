-- What a sync found may quote a provider's long texts, of both sides.

ALTER TABLE rag_sync_findings
    MODIFY COLUMN detail MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL;
