-- What the status of an index tells is in the index's own row: its two further tables took a third of that statement's time.

ALTER TABLE rag_indexes
    -- The build that began last; its row in rag_index_builds may be gone.
    ADD COLUMN last_job_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL;

UPDATE rag_indexes i
   SET i.updated_at = i.updated_at,
       i.last_job_id = (SELECT b.job_id FROM rag_index_builds b WHERE b.index_id = i.id ORDER BY b.started_at DESC LIMIT 1),
       i.provider_seen_at = COALESCE(
           (SELECT GREATEST(k.looked_at, COALESCE(i.provider_seen_at, k.looked_at))
              FROM rag_index_looks k WHERE k.index_id = i.id),
           i.provider_seen_at);
