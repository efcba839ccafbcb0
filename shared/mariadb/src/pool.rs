//! Connections with the session settings that this layer relies on.

use std::time::Duration;

use log::LevelFilter;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::session;

const SLOW_STATEMENT: Duration = Duration::from_secs(4);

/// A connection that was used so recently is taken to be alive. Asking it, as the pool does by itself, would cost each use a
/// round trip more.
const ALIVE_FOR: Duration = Duration::from_secs(1);

/// Opens a pool and makes sure that the database answers.
///
/// Its sessions are as [`session::SETUP`] makes them.
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
                sqlx::raw_sql(session::SETUP)
                    .execute(connection)
                    .await
                    .map(|_| ())
            })
        })
}
