-- Why the provider could not be asked: `last_error` alone is the last build's, and a search that works says nothing of it.

ALTER TABLE rag_indexes
    -- The last sync of the index; the next that succeeds clears it.
    ADD COLUMN sync_error TEXT NULL AFTER last_error,
    -- The last search, or live listing of its files; the next that succeeds clears it.
    ADD COLUMN query_error TEXT NULL AFTER sync_error;

ALTER TABLE rag_provider_connections
    -- The last sync of the provider; the next that ends clears it.
    ADD COLUMN sync_error TEXT NULL AFTER last_error;
