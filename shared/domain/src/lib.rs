//! Ids, statuses, legal transitions, aggregation and chunking rules. No IO.
