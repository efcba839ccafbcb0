//! What operators and callers do to jobs and workers from outside: cancel, retry, pause, drain.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection, Row};

use crate::ack::{HELD_COLUMNS, Held};
use crate::error::QueueError;
use crate::id::{JobId, WorkerId};
use crate::keys;
use crate::new_job::is_kind;
use crate::queue::Queue;
use crate::sql::{self, now_us, retrying};
use crate::state::{Move, State};

/// Somebody has the job's row for the moment; ask again after this.
const ROW_BUSY: Duration = Duration::from_millis(20);

/// What became of [`Queue::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// It had not been running; it is cancelled now.
    Now,
    /// It runs: its handler has been asked to stop, and is told within a second.
    Requested,
    /// It was over already, in this state.
    Finished(State),
}

/// A worker process, as it registered itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worker {
    pub id: WorkerId,
    pub host: String,
    pub pid: u32,
    /// Kind -> how many jobs at a time.
    pub kinds: Value,
    pub draining: bool,
    pub started_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
}

enum Try<T> {
    Done(T),
    RowBusy,
}

impl Queue {
    /// Cancels the job at once if it does not run, else asks its handler to stop: then it is cancelled when the handler
    /// ends, unless the handler finished it.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, QueueError> {
        loop {
            match retrying!(try_cancel(self, id)) {
                Try::Done(cancelled) => return Ok(cancelled),
                Try::RowBusy => tokio::time::sleep(ROW_BUSY).await,
            }
        }
    }

    /// [`cancel`](Self::cancel) within the caller's READ COMMITTED transaction, so that rows beside the job change with
    /// it. `None`: somebody has the job's row for the moment; roll back, and ask again a little later.
    pub async fn try_cancel(
        &self,
        conn: &mut MySqlConnection,
        id: JobId,
    ) -> Result<Option<Cancelled>, QueueError> {
        Ok(match cancel_within(conn, id).await? {
            Try::Done(cancelled) => Some(cancelled),
            Try::RowBusy => None,
        })
    }

    /// [`retry`](Self::retry) within the caller's READ COMMITTED transaction; `None` as for
    /// [`try_cancel`](Self::try_cancel). Say [`notify`](Self::notify) after the commit.
    pub async fn try_retry(&self, conn: &mut MySqlConnection, id: JobId) -> Result<Option<()>, QueueError> {
        Ok(match retry_within(conn, id).await? {
            Try::Done(_) => Some(()),
            Try::RowBusy => None,
        })
    }

    /// Runs a failed or cancelled job again, with all its attempts; makes a scheduled one due now.
    /// [`QueueError::IllegalMove`] for jobs in other states, [`QueueError::Duplicate`] if an active job has its unique
    /// key by now.
    pub async fn retry(&self, id: JobId) -> Result<(), QueueError> {
        let kind = loop {
            match retrying!(try_retry(self, id)) {
                Try::Done(kind) => break kind,
                Try::RowBusy => tokio::time::sleep(ROW_BUSY).await,
            }
        };
        self.notify(&kind);
        Ok(())
    }

    /// No worker claims jobs of the kind until it is resumed. Takes effect within about a second; running jobs go on.
    pub async fn pause(&self, kind: &str) -> Result<(), QueueError> {
        if !is_kind(kind) {
            return Err(QueueError::InvalidKind(kind.to_owned()));
        }
        sqlx::query("INSERT IGNORE INTO queue_paused_kinds (kind, paused_at) VALUES (?, UTC_TIMESTAMP(6))")
            .bind(kind)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    pub async fn resume(&self, kind: &str) -> Result<(), QueueError> {
        sqlx::query("DELETE FROM queue_paused_kinds WHERE kind = ?")
            .bind(kind)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// The kinds that are paused.
    pub async fn paused_kinds(&self) -> Result<Vec<String>, QueueError> {
        Ok(
            sqlx::query_scalar("SELECT kind FROM queue_paused_kinds ORDER BY kind")
                .fetch_all(self.pool())
                .await?,
        )
    }

    /// Registered worker processes. One that was killed stays listed for a while: compare `seen_at`, which a live one
    /// renews every ten seconds.
    pub async fn list_workers(&self) -> Result<Vec<Worker>, QueueError> {
        let rows = sqlx::query(
            "SELECT id, host, pid, kinds, CAST(draining AS SIGNED) AS draining, started_at, seen_at \
             FROM queue_workers ORDER BY started_at, id",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let kinds: String = row.try_get("kinds")?;
                Ok(Worker {
                    id: row.try_get("id")?,
                    host: row.try_get("host")?,
                    pid: row.try_get("pid")?,
                    kinds: serde_json::from_str(&kinds).unwrap_or_default(),
                    draining: row.try_get::<i64, _>("draining")? != 0,
                    started_at: row.try_get("started_at")?,
                    seen_at: row.try_get("seen_at")?,
                })
            })
            .collect()
    }

    /// Makes a worker take no further jobs (or take them again); what it runs goes on. Answers whether there is such a
    /// worker.
    pub async fn drain(&self, worker: WorkerId, draining: bool) -> Result<bool, QueueError> {
        let found = sqlx::query("UPDATE queue_workers SET draining = ? WHERE id = ?")
            .bind(draining)
            .bind(worker)
            .execute(self.pool())
            .await?;
        Ok(found.rows_affected() == 1)
    }
}

/// The job without a lock, to learn its keys.
async fn peek(conn: &mut MySqlConnection, id: JobId) -> Result<Held, QueueError> {
    let select = format!("SELECT {HELD_COLUMNS} FROM queue_jobs WHERE id = ?");
    let row = sqlx::query(AssertSqlSafe(select))
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(Held::from_row(&row.ok_or(QueueError::NotFound(id))?)?)
}

fn state_of(held: &Held) -> Result<State, QueueError> {
    held.state.parse().map_err(|_| QueueError::Corrupt {
        id: held.id,
        column: "state",
    })
}

/// Locks the job's row, after its concurrency key, if it can be had at once: whoever has it may want the key.
async fn lock_without_waiting(conn: &mut MySqlConnection, id: JobId) -> Result<Option<Held>, QueueError> {
    let select = format!(
        "SELECT {HELD_COLUMNS} FROM queue_jobs FORCE INDEX (PRIMARY) WHERE id = ? FOR UPDATE SKIP LOCKED"
    );
    let row = sqlx::query(AssertSqlSafe(select))
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| Held::from_row(&row)).transpose()?)
}

async fn try_cancel(queue: &Queue, id: JobId) -> Result<Try<Cancelled>, QueueError> {
    let mut tx = sql::begin(queue.pool()).await?;
    let answer = cancel_within(&mut tx, id).await?;
    if matches!(answer, Try::Done(_)) {
        tx.commit().await?;
    }
    Ok(answer)
}

async fn cancel_within(conn: &mut MySqlConnection, id: JobId) -> Result<Try<Cancelled>, QueueError> {
    let seen = peek(&mut *conn, id).await?;
    let state = state_of(&seen)?;
    if state.is_finished() {
        return Ok(Try::Done(Cancelled::Finished(state)));
    }
    if state == State::Running {
        let flag = format!(
            "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET cancel_requested = 1 WHERE id = ? AND {}",
            Move::Stop.condition()
        );
        let flagged = sqlx::query(AssertSqlSafe(flag))
            .bind(id)
            .execute(&mut *conn)
            .await?
            .rows_affected();
        return Ok(if flagged == 1 {
            Try::Done(Cancelled::Requested)
        } else {
            Try::RowBusy
        });
    }
    if let Some(key) = &seen.concurrency_key {
        keys::lock_concurrency(&mut *conn, key).await?;
    }
    let Some(held) = lock_without_waiting(&mut *conn, id).await? else {
        return Ok(Try::RowBusy);
    };
    if !Move::Cancel.is_legal_from(state_of(&held)?) {
        // It moved between the two reads.
        return Ok(Try::RowBusy);
    }
    let cancel = format!(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = '{}', order_us = {}, cancel_requested = 1 \
         WHERE id = ? AND {}",
        Move::Cancel.to(),
        now_us!(),
        Move::Cancel.condition()
    );
    sqlx::query(AssertSqlSafe(cancel))
        .bind(id)
        .execute(&mut *conn)
        .await?;
    if let Some(key) = &held.concurrency_key {
        keys::release_concurrency(&mut *conn, key, id).await?;
    }
    if let Some(key) = &held.unique_key {
        keys::release_unique(&mut *conn, &held.kind, key, id).await?;
    }
    Ok(Try::Done(Cancelled::Now))
}

async fn try_retry(queue: &Queue, id: JobId) -> Result<Try<String>, QueueError> {
    let mut tx = sql::begin(queue.pool()).await?;
    let answer = retry_within(&mut tx, id).await?;
    if matches!(answer, Try::Done(_)) {
        tx.commit().await?;
    }
    Ok(answer)
}

/// Leaves the kind of a job that is ready now.
async fn retry_within(conn: &mut MySqlConnection, id: JobId) -> Result<Try<String>, QueueError> {
    let seen = peek(&mut *conn, id).await?;
    let has_key = match &seen.concurrency_key {
        Some(key) => keys::take_concurrency(&mut *conn, key, id).await?,
        None => true,
    };
    if let Some(key) = &seen.unique_key {
        let active = keys::take_unique(&mut *conn, &seen.kind, key, id).await?;
        if active != id {
            return Err(QueueError::Duplicate(active));
        }
    }
    let Some(held) = lock_without_waiting(&mut *conn, id).await? else {
        return Ok(Try::RowBusy);
    };
    let step = if has_key {
        Move::Revive
    } else {
        Move::ReviveBlocked
    };
    let state = state_of(&held)?;
    if !step.is_legal_from(state) {
        return Err(QueueError::IllegalMove { id, state });
    }
    let fresh = if state.is_finished() {
        "attempts = 0, lease_losses = 0, cancel_requested = 0, "
    } else {
        ""
    };
    let revive = format!(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET {fresh}state = '{}', order_us = rank_us WHERE id = ? AND {}",
        step.to(),
        step.condition()
    );
    sqlx::query(AssertSqlSafe(revive))
        .bind(id)
        .execute(&mut *conn)
        .await?;
    if let Some(key) = held
        .concurrency_key
        .as_deref()
        .filter(|_| step == Move::ReviveBlocked)
    {
        keys::wait_for_concurrency(&mut *conn, key, id).await?;
    }
    Ok(Try::Done(held.kind))
}
