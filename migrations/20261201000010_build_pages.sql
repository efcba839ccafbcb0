-- Builds walk their files in pages, in the order of the composition, and read attachments by state.

ALTER TABLE rag_index_files
    ADD KEY ix_index_files_order (index_id, include_order, file_id);

ALTER TABLE rag_index_attachments
    ADD KEY ix_attachments_state (index_id, state);

ALTER TABLE rag_index_builds
    -- Something in this build may have had an effect on the store that our rows do not show (a call without an answer, a
    -- repair): only a complete listing can verify the store.
    ADD COLUMN needs_listing BOOLEAN NOT NULL DEFAULT FALSE AFTER repair_rounds;
