//! Connections with the session settings that this layer relies on, and when a connection is given up: when it is old, when
//! it no longer answers, and when its server has become read-only.
//!
//! The last is what a planned switchover looks like from here. The old primary stays up and answers reads, and an account
//! with READ ONLY ADMIN may even write to it, so no error ever tells that the writes belong to another server by now.
//! Hence connections are asked for `@@read_only` where they are asked whether they are alive, which costs the same round
//! trip.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::LevelFilter;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnectionMetadata;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::{errors, session};

const SLOW_STATEMENT: Duration = Duration::from_secs(4);

/// A connection that was used so recently is taken to be alive. Asking it, as the pool does by itself, would cost each use a
/// round trip more.
const ALIVE_FOR: Duration = Duration::from_secs(1);

/// Between two questions whether a server has become read-only, whichever connection of a pool is asked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The greatest age of a connection. Whatever a proxy, a name server or an administrator has changed is noticed at the latest
/// after this time, even if the old server goes on answering. Connecting anew so seldom costs nothing that could be measured.
pub const MAX_AGE: Duration = Duration::from_mins(5);

/// How long a server may take to accept a connection, or a free one of the pool may take to appear.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Opens a pool and makes sure that the database answers. Its sessions are as `session::SETUP` makes them.
pub async fn connect(options: MySqlConnectOptions, max_connections: u32) -> Result<MySqlPool, sqlx::Error> {
    pool_options(max_connections).connect_with(quiet(options)).await
}

/// As [`connect`], but the first connection is made when it is needed.
pub fn connect_lazy(options: MySqlConnectOptions, max_connections: u32) -> MySqlPool {
    pool_options(max_connections).connect_lazy_with(quiet(options))
}

/// A connection to the pool's server beside the pool, with the same session settings. Unlike the pool it waits for no
/// other connection to be given back, and answers the server's own error where the pool says "timed out".
pub async fn open(pool: &MySqlPool) -> Result<MySqlConnection, sqlx::Error> {
    let options = pool.connect_options();
    let opening = async {
        let mut connection = MySqlConnection::connect_with(&options).await?;
        set_up_session(&mut connection).await?;
        Ok(connection)
    };
    match tokio::time::timeout(CONNECT_WITHIN, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the server did not accept a connection within {CONNECT_WITHIN:?}"),
        ))),
    }
}

/// An error of [`Cause::ReadOnly`](crate::Cause::ReadOnly) if the connection's server is read-only, whether or not this account could still
/// write to it.
pub async fn check_writable(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    if is_read_only(connection).await? {
        return Err(errors::read_only());
    }
    Ok(())
}

async fn is_read_only(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    // As text: from MariaDB 12 on read_only has more values than ON and OFF.
    let (read_only, innodb): (String, String) =
        sqlx::query_as("SELECT CAST(@@read_only AS CHAR), CAST(@@innodb_read_only AS CHAR)")
            .fetch_one(connection)
            .await?;
    let is_off = |value: &str| value == "0" || value.eq_ignore_ascii_case("OFF");
    Ok(!is_off(&read_only) || !is_off(&innodb))
}

async fn set_up_session(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(session::SETUP)
        .execute(connection)
        .await
        .map(|_| ())
}

/// The queue waits for work in statements of a second: only what takes clearly longer is worth a warning.
fn quiet(options: MySqlConnectOptions) -> MySqlConnectOptions {
    options.log_slow_statements(LevelFilter::Warn, SLOW_STATEMENT)
}

fn pool_options(max_connections: u32) -> MySqlPoolOptions {
    let watch = Arc::new(ReadOnlyWatch::default());
    MySqlPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(CONNECT_WITHIN)
        .max_lifetime(MAX_AGE)
        .test_before_acquire(false)
        .before_acquire(move |connection, used| {
            let watch = Arc::clone(&watch);
            Box::pin(async move { watch.is_usable(connection, used).await })
        })
        .after_connect(|connection, _| Box::pin(set_up_session(connection)))
}

/// What a pool knows of its server being read-only.
#[derive(Debug, Default)]
struct ReadOnlyWatch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    checked_at: Option<Instant>,
    /// Connections that were made before this time may lead to the server that was read-only then.
    read_only_at: Option<Instant>,
}

impl ReadOnlyWatch {
    /// Whether an idle connection may be used. If not, the pool closes it and makes another: to the new primary after a
    /// switchover, or else to the same server, where reads go on and writes are refused.
    async fn is_usable(
        &self,
        connection: &mut MySqlConnection,
        used: PoolConnectionMetadata,
    ) -> Result<bool, sqlx::Error> {
        let now = Instant::now();
        if self.is_outdated(now, used.age) {
            return Ok(false);
        }
        if used.idle_for <= ALIVE_FOR && !self.is_check_due(now) {
            return Ok(true);
        }
        let read_only = is_read_only(connection).await?;
        if read_only {
            self.lock().read_only_at = Some(Instant::now());
        }
        Ok(!read_only)
    }

    fn is_outdated(&self, now: Instant, age: Duration) -> bool {
        let read_only_at = self.lock().read_only_at;
        read_only_at.is_some_and(|at| now.saturating_duration_since(at) < age)
    }

    /// A pool whose connections are never idle for long is asked all the same, through whichever comes first.
    fn is_check_due(&self, now: Instant) -> bool {
        let mut seen = self.lock();
        let due = seen
            .checked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= CHECK_EVERY);
        if due {
            seen.checked_at = Some(now);
        }
        due
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_asks_once_a_second_and_drops_what_is_older_than_a_read_only_server() {
        let watch = ReadOnlyWatch::default();
        let now = Instant::now();
        assert!(watch.is_check_due(now));
        assert!(!watch.is_check_due(now + CHECK_EVERY / 2));
        assert!(watch.is_check_due(now + CHECK_EVERY));

        assert!(!watch.is_outdated(now, Duration::from_hours(1)));
        watch.lock().read_only_at = Some(now);
        let later = now + Duration::from_secs(10);
        assert!(watch.is_outdated(later, Duration::from_secs(11)));
        assert!(!watch.is_outdated(later, Duration::from_secs(9)));
    }
}
