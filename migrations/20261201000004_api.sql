-- The API: its callers, its answers to repeated requests, quotas, and when its counts of files are out of date.

-- Callers of the API. Keys are random, so a plain SHA-256 of one is enough to find and check it.
CREATE TABLE rag_api_keys (
    id           CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    name         VARCHAR(128) NOT NULL,
    -- service | admin
    role         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Domains that a service key may name in X-Domain-Id; NULL is any.
    domains      JSON NULL,
    key_sha256   CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    created_at   DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    revoked_at   DATETIME(6) NULL,
    CONSTRAINT uq_api_keys_hash UNIQUE (key_sha256)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

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
    -- Renewed while the request is being carried out: a row with an old time was abandoned.
    seen_at      DATETIME(6) NOT NULL,
    created_at   DATETIME(6) NOT NULL,
    KEY ix_idempotency_created (created_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Locks for the quotas of domains, by the hash of a domain: whoever adds to a domain's files under a quota holds its slot
-- until the commit, so that two at once cannot both use the last of the quota. These rows never change.
CREATE TABLE rag_quota_locks (
    slot SMALLINT UNSIGNED NOT NULL PRIMARY KEY
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

-- Slots 0 to 255.
INSERT INTO rag_quota_locks (slot)
WITH digits (digit) AS (SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)
SELECT ((a.digit * 4 + b.digit) * 4 + c.digit) * 4 + d.digit
FROM digits AS a CROSS JOIN digits AS b CROSS JOIN digits AS c CROSS JOIN digits AS d;

-- By the hash of a domain, in the same slots: grows with each change to contents, names, strategies and copies of its files.
-- It is to files what composition_revision is to an index.
CREATE TABLE rag_file_revisions (
    slot     SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
    revision BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;

INSERT INTO rag_file_revisions (slot) SELECT slot FROM rag_quota_locks;
