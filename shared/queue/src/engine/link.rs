//! A connection of an engine task's own, so that handlers which use up the pool cannot keep it from its work.
//!
//! It is made beside the pool, given up when it is old, when its server has become read-only, and after every error: then
//! nothing is known of its transaction, and the server rolls back what was open.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rag_mariadb::OutageLog;
use sqlx::{MySqlConnection, MySqlPool};
use tokio::time::Instant;

use crate::health::Health;
use crate::sql::pause;

/// Between two questions whether the server has become read-only.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// What the protocol adds to a statement, and more.
const PACKET_MARGIN: usize = 1024;
/// The server's own default, until it has been asked.
const USUAL_PACKET: usize = 16 * 1024 * 1024;

pub(super) struct Link {
    pool: MySqlPool,
    health: Arc<Health>,
    log: OutageLog,
    /// Something that answers later does not answer: the network drops packets without a word, say.
    answers_within: Duration,
    /// How long to wait for somebody's lock; `None`: as the server has it.
    lock_wait: Option<Duration>,
    open: Option<Open>,
    max_packet: usize,
}

struct Open {
    conn: MySqlConnection,
    made_at: Instant,
    checked_at: Instant,
}

impl Link {
    pub(super) const fn new(
        pool: MySqlPool,
        health: Arc<Health>,
        task: &'static str,
        answers_within: Duration,
    ) -> Self {
        Self {
            pool,
            health,
            log: OutageLog::new(task),
            answers_within,
            lock_wait: None,
            open: None,
            max_packet: USUAL_PACKET,
        }
    }

    /// A lock that is not free within this time is an error. Whole seconds.
    pub(super) const fn with_lock_wait(mut self, lock_wait: Duration) -> Self {
        self.lock_wait = Some(lock_wait);
        self
    }

    /// Runs something on the connection, made anew after an error. Also if the future is dropped half-way.
    pub(super) async fn run<T>(
        &mut self,
        run: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.health.asks(self.log.task());
        let mut open = self.ready().await?;
        let result = within(self.answers_within, run(&mut open.conn)).await;
        if result.is_ok() {
            self.open = Some(open);
        }
        result
    }

    /// How long a statement may be, in bytes (`@@max_allowed_packet`), as far as is known without asking.
    pub(super) const fn last_packet_room(&self) -> usize {
        self.max_packet.saturating_sub(PACKET_MARGIN)
    }

    /// How long a statement may be, in bytes; connects if there is no connection.
    pub(super) async fn packet_room(&mut self) -> Result<usize, sqlx::Error> {
        let open = self.ready().await?;
        self.open = Some(open);
        Ok(self.last_packet_room())
    }

    /// Notes a failure, and says how long to wait before the next try.
    pub(super) fn failed(&mut self, error: &sqlx::Error) -> Duration {
        self.log.failed(error);
        self.health.failed(self.log.task(), error);
        pause(self.log.failures())
    }

    pub(super) fn succeeded(&mut self) {
        self.log.succeeded();
        self.health.is_well(self.log.task());
    }

    /// There is nothing to do, so whatever failed does not matter any more.
    pub(super) fn idle(&mut self) {
        self.log.reset();
        self.health.is_well(self.log.task());
    }

    async fn ready(&mut self) -> Result<Open, sqlx::Error> {
        if let Some(mut open) = self.open.take()
            && open.made_at.elapsed() < rag_mariadb::MAX_AGE
        {
            if open.checked_at.elapsed() < CHECK_EVERY {
                return Ok(open);
            }
            let checked = within(self.answers_within, rag_mariadb::check_writable(&mut open.conn)).await;
            if checked.is_ok() {
                open.checked_at = Instant::now();
                return Ok(open);
            }
        }
        self.connect().await
    }

    /// A server that is read-only is refused here: after a switchover it is the old primary, and what could still be written
    /// there would be lost.
    async fn connect(&mut self) -> Result<Open, sqlx::Error> {
        let mut conn = rag_mariadb::open(&self.pool).await?;
        let setting_up = async {
            rag_mariadb::check_writable(&mut conn).await?;
            if let Some(lock_wait) = self.lock_wait {
                sqlx::query("SET SESSION innodb_lock_wait_timeout = ?")
                    .bind(lock_wait.as_secs())
                    .execute(&mut conn)
                    .await?;
            }
            sqlx::query_scalar::<_, u64>("SELECT CAST(@@max_allowed_packet AS UNSIGNED)")
                .fetch_one(&mut conn)
                .await
        };
        let max_packet = within(self.answers_within, setting_up).await?;
        self.max_packet = usize::try_from(max_packet).unwrap_or(usize::MAX);
        let now = Instant::now();
        Ok(Open {
            conn,
            made_at: now,
            checked_at: now,
        })
    }
}

async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the database did not answer within {limit:?}"),
        ))),
    }
}
