-- Answers to creating requests that carried an Idempotency-Key, so that a retry gets the same answer and creates nothing
-- twice. A row without a status belongs to a request that is being carried out.
CREATE TABLE rag_idempotency_keys (
    -- SHA-256 of domain and key: the key's text is the caller's business.
    id           BINARY(32) NOT NULL PRIMARY KEY,
    -- Which request has the row; whoever takes over an abandoned one writes another.
    owner        BINARY(16) NOT NULL,
    -- SHA-256 of method, path, query, and body; NULL until the body has arrived.
    fingerprint  BINARY(32) NULL,
    status       SMALLINT UNSIGNED NULL,
    content_type VARCHAR(255) CHARACTER SET ascii NULL,
    location     VARCHAR(1024) CHARACTER SET ascii NULL,
    body         MEDIUMBLOB NULL,
    -- Renewed while the request is being carried out: an old one was abandoned.
    seen_at      DATETIME(6) NOT NULL,
    created_at   DATETIME(6) NOT NULL,
    KEY ix_idempotency_created (created_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
