-- An admin declares that nothing but this database works on the account behind a connection.
ALTER TABLE rag_provider_connections
    ADD COLUMN is_exclusive BOOLEAN NOT NULL DEFAULT FALSE AFTER is_enabled;
