-- What the processes of a fleet share about a provider: who gets its access token, and when requests may be sent.

ALTER TABLE rag_provider_connections
    -- Over all processes; NULL: no limit of ours.
    ADD COLUMN max_requests_per_second INT UNSIGNED NULL AFTER token_expires_at,
    -- Until then one process is getting a new access token, and the others wait for it.
    ADD COLUMN token_lease_until DATETIME(6) NULL AFTER token_expires_at;

-- Microseconds since 1970 UTC by the database's clock.
CREATE TABLE rag_provider_budgets (
    provider_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    -- When the first request may be sent that nobody has reserved yet.
    next_us       BIGINT NOT NULL DEFAULT 0,
    -- Until then nobody sends anything, because the provider asked for a pause.
    calm_until_us BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
