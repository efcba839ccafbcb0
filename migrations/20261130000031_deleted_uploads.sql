-- Copies that were deleted at their provider stay for the record, with the status `deleted`.
ALTER TABLE rag_provider_file_uploads
    -- When the provider confirmed that the copy of a `deleted` row is gone; NULL: it has not yet, or was never asked.
    ADD COLUMN deleted_at DATETIME(6) NULL AFTER raw_provider_json,
    -- For those to forget: of files that are gone, by age.
    ADD KEY ix_rpfu_status (status, updated_at);
