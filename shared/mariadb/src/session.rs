//! What every session is told before it is used, so that it is the same on each server, whatever an admin has set there.

/// One batch of statements for a new connection. None of them needs a right.
///
/// - Dates are UTC. READ COMMITTED: under REPEATABLE READ the same workload meets gap-lock deadlocks, and a conditional
///   `UPDATE` judges by an old snapshot.
/// - A transaction in which nothing happens for five seconds is ended by the server: a process that is stopped, or cut off,
///   must not keep its locks, and none of ours waits for anything meanwhile.
/// - `autocommit`, `completion_type`, `sql_mode`, `sql_safe_updates`, `sql_select_limit` and `sql_auto_is_null` change what
///   statements mean or whether they last; here they are MariaDB's own defaults, which all tests run with.
/// - No limits of time but our own: the queue waits for work in statements of a second, a migration may take minutes.
/// - New tables without an `ENGINE` (the list of migrations is one) are InnoDB's.
pub(crate) const SETUP: &str = "\
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; \
    SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci; \
    SET SESSION autocommit = 1, completion_type = 'NO_CHAIN', time_zone = '+00:00', \
    sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT', \
    sql_safe_updates = 0, sql_auto_is_null = 0, sql_select_limit = DEFAULT, sql_big_selects = 1, \
    unique_checks = 1, check_constraint_checks = 1, \
    idle_transaction_timeout = 5, wait_timeout = 28800, max_statement_time = 0, \
    innodb_lock_wait_timeout = 50, lock_wait_timeout = 86400, \
    default_storage_engine = InnoDB, innodb_strict_mode = 1";
