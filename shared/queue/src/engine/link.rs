//! A connection of an engine task's own, so that handlers which use up the pool cannot keep it from its work.

use std::time::Duration;

use sqlx::{MySqlConnection, MySqlPool};

use crate::error::is_transient;
use crate::sql::pause;

/// A process that is stopped, or cut off, in the middle of a transaction must not keep its row locks: jobs that it has just
/// claimed, or was about to end, could not be taken back. The server ends such a transaction after five seconds.
const SETUP: &str =
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION idle_transaction_timeout = 5";

/// For what must rather fail than wait for somebody's lock.
const IMPATIENT_SETUP: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION idle_transaction_timeout = 5, innodb_lock_wait_timeout = 1";

pub(super) struct Link {
    pool: MySqlPool,
    conn: Option<MySqlConnection>,
    /// Consecutive failures.
    failures: u32,
    task: &'static str,
    setup: &'static str,
}

impl Link {
    pub(super) const fn new(pool: MySqlPool, task: &'static str) -> Self {
        Self::with_setup(pool, task, SETUP)
    }

    /// A lock that is not free within a second is an error.
    pub(super) const fn impatient(pool: MySqlPool, task: &'static str) -> Self {
        Self::with_setup(pool, task, IMPATIENT_SETUP)
    }

    const fn with_setup(pool: MySqlPool, task: &'static str, setup: &'static str) -> Self {
        Self {
            pool,
            conn: None,
            failures: 0,
            task,
            setup,
        }
    }

    /// Runs something on the connection, made anew after an error: then nothing is known of its transaction, and the
    /// server rolls back what was open. Also if the future is dropped half-way.
    pub(super) async fn run<T>(
        &mut self,
        run: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        let result = run(&mut conn).await;
        if result.is_ok() {
            self.conn = Some(conn);
        }
        result
    }

    /// Logs an outage once at its beginning, and says how long to wait before the next try.
    pub(super) fn failed(&mut self, error: &sqlx::Error) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 && !is_transient(error) {
            tracing::error!(task = self.task, %error, "the queue's database refuses; trying on");
        } else if self.failures == 3 {
            tracing::warn!(task = self.task, %error, "the queue's database does not answer; trying on");
        } else {
            tracing::debug!(task = self.task, %error, failures = self.failures, "a queue statement failed; trying again");
        }
        pause(self.failures)
    }

    pub(super) fn succeeded(&mut self) {
        if self.failures >= 3 {
            tracing::info!(task = self.task, "the queue's database answers again");
        }
        self.failures = 0;
    }

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut conn = self.pool.acquire().await?.detach();
        sqlx::raw_sql(self.setup).execute(&mut conn).await?;
        Ok(conn)
    }
}
