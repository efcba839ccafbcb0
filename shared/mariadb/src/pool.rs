//! Connections with the session settings that this layer relies on.

use std::time::Duration;

use log::LevelFilter;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

const SLOW_STATEMENT: Duration = Duration::from_secs(4);

/// A connection that was used so recently is taken to be alive. Asking it, as the pool does by itself, would cost each use a
/// round trip more.
const ALIVE_FOR: Duration = Duration::from_secs(1);

/// Opens a pool and makes sure that the database answers.
///
/// Sessions run in UTC and READ COMMITTED. Under REPEATABLE READ the same workload meets gap-lock deadlocks, and a
/// conditional `UPDATE` judges by an old snapshot. A transaction in which nothing happens for five seconds is ended by the
/// server: a process that is stopped, or cut off, must not keep its locks, and none of ours waits for anything meanwhile.
pub async fn connect(options: MySqlConnectOptions, max_connections: u32) -> Result<MySqlPool, sqlx::Error> {
    pool_options(max_connections).connect_with(quiet(options)).await
}

/// As [`connect`], but the first connection is made when it is needed.
pub fn connect_lazy(options: MySqlConnectOptions, max_connections: u32) -> MySqlPool {
    pool_options(max_connections).connect_lazy_with(quiet(options))
}

/// The queue waits for work in statements of a second: only what takes clearly longer is worth a warning.
fn quiet(options: MySqlConnectOptions) -> MySqlConnectOptions {
    options.log_slow_statements(LevelFilter::Warn, SLOW_STATEMENT)
}

fn pool_options(max_connections: u32) -> MySqlPoolOptions {
    MySqlPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > ALIVE_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                // The time zone is sqlx's own doing; named here because rows rely on it.
                sqlx::raw_sql(
                    "SET time_zone = '+00:00'; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                     SET SESSION idle_transaction_timeout = 5",
                )
                .execute(connection)
                .await
                .map(|_| ())
            })
        })
}
