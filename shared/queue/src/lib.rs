//! A crash-safe job queue on MariaDB: storage for apalis 1.0 with leases, fencing and transactional enqueue.
