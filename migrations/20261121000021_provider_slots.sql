-- How many requests a fleet may have open at a provider at the same time, and who has them open.

ALTER TABLE rag_provider_connections
    -- Over all processes; NULL: no limit of ours.
    ADD COLUMN max_concurrent_requests INT UNSIGNED NULL AFTER max_requests_per_second;

-- One row per place. Times are microseconds since 1970 UTC by the database's clock.
CREATE TABLE rag_provider_slots (
    provider_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slot        INT UNSIGNED    NOT NULL,
    -- Drawn anew for every request.
    holder      BIGINT UNSIGNED NOT NULL DEFAULT 0,
    -- Until then it is taken; a living holder moves it on, a killed one's place is free afterwards.
    until_us    BIGINT          NOT NULL DEFAULT 0,
    PRIMARY KEY (provider_id, slot)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
