-- What a fleet knows of a provider that wants less, or whose account is exhausted.

ALTER TABLE rag_provider_connections
    -- What the account has run out of: quota_exceeded | storage_full; NULL: nothing.
    ADD COLUMN blocked_kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER last_error,
    -- Which requests wait: `growth` (those that bring something to the provider), or `all`.
    ADD COLUMN blocked_scope VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER blocked_kind,
    -- The provider's words.
    ADD COLUMN blocked_reason TEXT NULL AFTER blocked_scope,
    ADD COLUMN blocked_since DATETIME(6) NULL AFTER blocked_reason,
    -- Whoever moves this on sends the one request of the fleet that finds out whether it is over.
    ADD COLUMN blocked_next_try_at DATETIME(6) NULL AFTER blocked_since,
    ADD COLUMN blocked_tries INT UNSIGNED NOT NULL DEFAULT 0 AFTER blocked_next_try_at;

-- Rate limits without a hint for how long: the fleet backs off per operation, so that other work goes on.
CREATE TABLE rag_provider_backoffs (
    provider_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    operation   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- How often in a row; a success halves it.
    streak      INT UNSIGNED NOT NULL DEFAULT 0,
    -- Microseconds since 1970 UTC by the database's clock.
    until_us    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (provider_id, operation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
