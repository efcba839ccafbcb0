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
    /// Worth another try, now or later, without anything having changed here: a deadlock, a lost connection, a server that is
    /// read-only or full, an account that is locked ([`rag_mariadb::Cause::is_transient`]).
    pub fn is_transient(&self) -> bool {
        let Self::Sqlx(error) = self else { return false };
        rag_mariadb::cause(error).is_transient()
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
