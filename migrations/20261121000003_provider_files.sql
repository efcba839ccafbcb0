-- Providers that call a file in a store otherwise than the Files API does, and providers that refuse chunking strategies.

-- Where external_file_id holds the id within a store (yandex), this is the id in the Files API; NULL: the two are one.
ALTER TABLE rag_provider_file_uploads
    ADD COLUMN files_api_id VARCHAR(255) COLLATE utf8mb4_bin NULL AFTER external_file_id,
    ADD KEY ix_rpfu_files_api (provider_id, files_api_id);

-- external_file_id is always the id in the Files API; this is the id within the store, NULL: the same.
-- strategy_applied: 0 when the provider attached the file without the strategy that was asked for; NULL: not known, or
-- none was asked for.
ALTER TABLE rag_index_attachments
    ADD COLUMN external_store_file_id VARCHAR(255) COLLATE utf8mb4_bin NULL AFTER external_file_id,
    ADD COLUMN strategy_applied BOOLEAN NULL AFTER reported_strategy;
