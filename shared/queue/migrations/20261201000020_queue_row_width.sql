-- What a claim and an end write has the same width from the beginning, so that InnoDB overwrites it where it is: a row that
-- grows is taken out of its page and put back in, splits the page when that is full, and writes three times as much log.
-- "None yet" is therefore a value: the zero id, and the year 1970.
--
-- A finished job's order_us says when it finished; finished_at said the same again.

UPDATE queue_jobs
SET worker_id = COALESCE(worker_id, x'00000000000000000000000000000000'),
    started_at = COALESCE(started_at, '1970-01-01'),
    claimed_at = COALESCE(claimed_at, '1970-01-01')
WHERE worker_id IS NULL OR started_at IS NULL OR claimed_at IS NULL;

ALTER TABLE queue_jobs
    MODIFY worker_id BINARY(16) NOT NULL DEFAULT x'00000000000000000000000000000000',
    MODIFY started_at DATETIME(6) NOT NULL DEFAULT '1970-01-01',
    MODIFY claimed_at DATETIME(6) NOT NULL DEFAULT '1970-01-01',
    DROP COLUMN finished_at;
