//! What can go wrong between us and the database.

/// An error of this layer. `Display` never repeats its source.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No such row, or not one that the caller may see.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The row is not in a state from which this move is legal, or somebody else moved it first.
    #[error("{what} {id} is no longer in a state that allows this")]
    Conflict { what: &'static str, id: String },
    /// A unique key is taken.
    #[error("this {0} exists already")]
    Duplicate(&'static str),
    /// The database itself: connection, deadlock, syntax.
    #[error("the database failed")]
    Sqlx(#[source] sqlx::Error),
}

impl DbError {
    /// Worth another try without anything having changed: a lost connection, a deadlock, a lock wait that timed out.
    pub fn is_transient(&self) -> bool {
        let Self::Sqlx(error) = self else { return false };
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_) => true,
            // 1205 lock wait timeout, 1213 deadlock, 1020 record changed since last read, 1927 connection killed,
            // 1053 shutdown in progress, 1040 too many connections, 1290/1836 read only (a failover in progress).
            sqlx::Error::Database(error) => error
                .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
                .is_some_and(|error| {
                    matches!(
                        error.number(),
                        1205 | 1213 | 1020 | 1927 | 1053 | 1040 | 1290 | 1836
                    )
                }),
            _ => false,
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

/// Turns "unique key taken" into [`DbError::Duplicate`].
pub(crate) fn on_duplicate(what: &'static str) -> impl FnOnce(sqlx::Error) -> DbError {
    move |error| match &error {
        sqlx::Error::Database(inner) if inner.is_unique_violation() => DbError::Duplicate(what),
        _ => DbError::Sqlx(error),
    }
}
