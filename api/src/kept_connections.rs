//! Connections that are used again at once stay outside of the pool meanwhile. The pool asks each connection that comes back
//! whether it still works, which takes as long as to read a row.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool};

/// After this time all of them go back: the pool decides how old a connection may be, and others may wait for one.
const KEPT_FOR: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct KeptConnections {
    db: MySqlPool,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    idle: Vec<PoolConnection<MySql>>,
    /// A task is about to give them back.
    go_back: bool,
}

impl KeptConnections {
    pub(crate) fn new(db: MySqlPool) -> Self {
        Self {
            db,
            kept: Arc::default(),
        }
    }

    pub(crate) async fn take(&self) -> Result<PoolConnection<MySql>, sqlx::Error> {
        let kept = lock(&self.kept).idle.pop();
        match kept {
            Some(connection) => Ok(connection),
            None => self.db.acquire().await,
        }
    }

    /// Only for a connection that has just worked.
    pub(crate) fn keep(&self, connection: PoolConnection<MySql>) {
        let mut state = lock(&self.kept);
        state.idle.push(connection);
        if !std::mem::replace(&mut state.go_back, true) {
            let kept = Arc::clone(&self.kept);
            tokio::spawn(async move {
                tokio::time::sleep(KEPT_FOR).await;
                drop(std::mem::take(&mut *lock(&kept)));
            });
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
