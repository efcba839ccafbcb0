//! What a failed statement says about the server: the one list of error numbers that the queue and the tables share.

use sqlx::mysql::MySqlDatabaseError;

/// Why a statement failed, as far as it matters for trying it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Another transaction was in the way. The same transaction may succeed at once.
    Conflict,
    /// The server cannot serve anybody, or not us: it is gone, restarting, read-only, or full. It may succeed later, over a
    /// new connection.
    Outage,
    /// The statement itself is refused, and will be again.
    Statement,
}

/// Deadlock, lock wait timeout, "record has changed since last read".
const CONFLICTS: &[u16] = &[1213, 1205, 1020];
/// Too many connections, shutdown in progress, query interrupted, connection killed, read-only (a failover in progress).
const OUTAGES: &[u16] = &[1040, 1053, 1317, 1927, 1290, 1836];

/// Sorts an error of sqlx.
pub fn cause(error: &sqlx::Error) -> Cause {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) if CONFLICTS.contains(&error.number()) => Cause::Conflict,
            Some(error) if OUTAGES.contains(&error.number()) => Cause::Outage,
            _ => Cause::Statement,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Cause::Outage,
        _ => Cause::Statement,
    }
}
