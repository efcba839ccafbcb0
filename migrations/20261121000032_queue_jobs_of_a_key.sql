-- The jobs of a concurrency key, newest first: without it, finding one index's few jobs walks over all of their tenant's.
-- Neither column changes in a job's life, so claims and ends do not touch this index.

ALTER TABLE queue_jobs ADD KEY ix_queue_jobs_concurrency (concurrency_key, id);
