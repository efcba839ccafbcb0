//! Whether a connection is still the one that a client was opened with.
//!
//! An admin who switches a connection off, or changes its host or key, must not find further requests in the provider's log,
//! not even of a build that is in the middle of its work. So the row is read before each request, unless it was read less than
//! [`READING_GOOD_FOR`] ago. The API's routes that change a connection wait that long after their commit before they answer
//! ([`until_noticed`]): after the answer, no process sends anything with the connection of before. Who asks while the row is
//! being read waits for that reading or the next, so however many ask, one statement is under way.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_db::DbError;
use rag_db::connections::{self, Connection, Version};
use rag_providers::{BudgetRefused, Refusal};
use sqlx::MySqlPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Counted from before the statement began.
const READING_GOOD_FOR: Duration = Duration::from_millis(100);
/// From the check of a reading's age to the request on the wire, and for clocks that do not run alike.
const MARGIN: Duration = Duration::from_millis(50);
/// A changed connection can be opened anew at once.
const OPEN_ANEW_AFTER: Duration = Duration::from_millis(200);
/// A connection that was switched off, or is gone, is looked at again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(15);
/// Our database does not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// After a connection's change was committed: waits until every process has noticed it.
pub async fn until_noticed() {
    tokio::time::sleep(READING_GOOD_FOR + MARGIN).await;
}

#[derive(Debug)]
pub(crate) struct RevisionCheck {
    pool: MySqlPool,
    provider_type: String,
    /// Of the row that the client was opened from.
    version: DateTime<Utc>,
    last: Mutex<Option<Reading>>,
}

#[derive(Debug, Clone)]
struct Reading {
    began_at: Instant,
    /// `None`: there is no row.
    found: Option<Version>,
}

impl RevisionCheck {
    /// Of a client that is opened from this row.
    pub(crate) fn new(pool: MySqlPool, row: &Connection) -> Self {
        Self {
            pool,
            provider_type: row.provider_type.clone(),
            version: row.updated_at,
            last: Mutex::default(),
        }
    }

    /// Refuses if the row was changed, switched off or deleted [`READING_GOOD_FOR`] before this was called, or if that can't be
    /// found out.
    pub(crate) async fn check(&self) -> Result<(), BudgetRefused> {
        let provider = &self.provider_type;
        let (why, retry_after) = match self.read().await {
            Ok(Some(found)) if found.updated_at == self.version && found.is_enabled => return Ok(()),
            Ok(Some(found)) if found.is_enabled => (
                format!("the connection to provider `{provider}` was changed, and is opened anew"),
                OPEN_ANEW_AFTER,
            ),
            Ok(Some(_)) => (
                format!("the connection to provider `{provider}` is switched off"),
                LOOK_AGAIN_AFTER,
            ),
            Ok(None) => (
                format!("there is no connection to provider `{provider}` any more"),
                LOOK_AGAIN_AFTER,
            ),
            Err(error) => {
                tracing::debug!(%error, "the connection's row could not be read");
                (
                    format!(
                        "whether the connection to provider `{provider}` is still the same could not be read"
                    ),
                    ASK_AGAIN_AFTER,
                )
            }
        };
        Err(BudgetRefused {
            retry_after,
            reason: Refusal::ConnectionChanged(why),
        })
    }

    /// The row as it was [`READING_GOOD_FOR`] before this was called, or later.
    async fn read(&self) -> Result<Option<Version>, DbError> {
        let asked_at = Instant::now();
        let mut last = self.last.lock().await;
        // One that took longer, at a slow database, serves those who asked before it began.
        let good = |reading: &&Reading| {
            reading.began_at >= asked_at || reading.began_at.elapsed() < READING_GOOD_FOR
        };
        if let Some(reading) = last.as_ref().filter(good) {
            return Ok(reading.found);
        }
        let mut db = self.pool.acquire().await?;
        let began_at = Instant::now();
        let found = connections::find_version(&mut db, &self.provider_type).await?;
        *last = Some(Reading { began_at, found });
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
