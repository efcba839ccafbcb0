//! Maintenance tasks of a queue: promoting due jobs, rescuing jobs whose lease has ended, deleting old ones, counting. Any
//! worker process does it, one at a time: whoever wins the task's row. A process that dies in between loses its turn,
//! nothing else.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow, MySql, MySqlConnection, MySqlPool, QueryBuilder, Row};

use crate::ack::{self, End, HELD_COLUMNS, Held, Within, id_list};
use crate::config::QueueConfig;
use crate::error::QueueError;
use crate::id::JobId;
use crate::keys;
use crate::sql::{self, micros, now_us, padded, retrying};
use crate::state::{Move, State};

/// Between two counts, whoever does them.
pub(crate) const COUNT_REST: Duration = Duration::from_secs(15);
const PROMOTE_BATCH: usize = 500;
/// Then others get their turn; the rest follows at the next poll.
const MAX_PROMOTE_BATCHES: usize = 20;
const RESCUE_BATCH: usize = 200;
const PRUNE_BATCH: usize = 500;
/// Between two batches of deletes, for others to get in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);
/// A worker that has not been seen for so long is gone for good.
const FORGET_WORKERS_AFTER: Duration = Duration::from_hours(1);

/// Something that one process at a time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Promote,
    Rescue,
    Prune,
    Count,
}

impl Task {
    const ALL: [Self; 4] = [Self::Promote, Self::Rescue, Self::Prune, Self::Count];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.as_str() == name)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rescue => "rescue",
            Self::Prune => "prune",
            Self::Count => "count",
        }
    }

    /// Whether it is this process's turn; then nobody else's until `rest` has passed.
    pub(crate) async fn win(self, pool: &MySqlPool, rest: Duration) -> Result<bool, QueueError> {
        let statement = concat!(
            "UPDATE queue_tasks SET due_us = ",
            now_us!(),
            " + ? WHERE task = ? AND due_us <= ",
            now_us!()
        );
        let won = sqlx::query(statement)
            .bind(micros(rest))
            .bind(self.as_str())
            .execute(pool)
            .await?;
        Ok(won.rows_affected() == 1)
    }
}

/// Makes due jobs of these kinds ready. Answers how many.
pub(crate) async fn promote(pool: &MySqlPool, kinds: &[&str]) -> Result<usize, QueueError> {
    let mut promoted = 0;
    for kind in kinds {
        for _ in 0..MAX_PROMOTE_BATCHES {
            let (due, keyed) = retrying!(promote_batch(pool, kind));
            for id in &keyed {
                retrying!(promote_keyed(pool, *id));
            }
            promoted += due;
            if due < PROMOTE_BATCH {
                break;
            }
        }
    }
    Ok(promoted)
}

/// Promotes a batch, except jobs that must first take their concurrency key; answers how many were due, and those.
async fn promote_batch(pool: &MySqlPool, kind: &str) -> Result<(usize, Vec<JobId>), QueueError> {
    let mut tx = sql::begin(pool).await?;
    let select = format!(
        "SELECT id, CAST(concurrency_key IS NOT NULL AND claim_no = 0 AS SIGNED) AS needs_key \
         FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
         WHERE state = 'scheduled' AND kind = ? AND order_us <= {} \
         ORDER BY order_us, id LIMIT {PROMOTE_BATCH} FOR UPDATE SKIP LOCKED",
        now_us!()
    );
    let rows = sqlx::query(AssertSqlSafe(select))
        .bind(kind)
        .fetch_all(&mut *tx)
        .await?;
    let (mut free, mut keyed) = (Vec::new(), Vec::new());
    for row in &rows {
        let list = if row.try_get::<i64, _>("needs_key")? == 0 {
            &mut free
        } else {
            &mut keyed
        };
        list.push(row.try_get("id")?);
    }
    if !free.is_empty() {
        promote_rows(&mut tx, Move::Promote, &free).await?;
    }
    tx.commit().await?;
    Ok((rows.len(), keyed))
}

/// A delayed job takes its concurrency key when it is due, or gets in line for it. One per transaction: a key is a lock.
async fn promote_keyed(pool: &MySqlPool, id: JobId) -> Result<(), QueueError> {
    let mut tx = sql::begin(pool).await?;
    let select = format!(
        "SELECT {HELD_COLUMNS} FROM queue_jobs FORCE INDEX (PRIMARY) WHERE id = ? FOR UPDATE SKIP LOCKED"
    );
    let Some(row) = sqlx::query(AssertSqlSafe(select))
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?
    else {
        return Ok(());
    };
    let held = Held::from_row(&row)?;
    let Some(key) = held
        .concurrency_key
        .as_deref()
        .filter(|_| held.state == State::Scheduled.as_str() && !held.live)
    else {
        return Ok(());
    };
    if keys::take_concurrency(&mut tx, key, id).await? {
        promote_rows(&mut tx, Move::Promote, &[id]).await?;
    } else {
        promote_rows(&mut tx, Move::Block, &[id]).await?;
        keys::wait_for_concurrency(&mut tx, key, id).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn promote_rows(conn: &mut MySqlConnection, step: Move, ids: &[JobId]) -> Result<(), QueueError> {
    let update = format!(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = '{}', order_us = rank_us WHERE id IN ({}) AND {}",
        step.to(),
        id_list(ids.iter().copied()),
        step.condition()
    );
    sqlx::raw_sql(AssertSqlSafe(update)).execute(conn).await?;
    Ok(())
}

/// Rescues jobs whose lease has ended. Answers how many.
pub(crate) async fn rescue(pool: &MySqlPool, config: &QueueConfig) -> Result<usize, QueueError> {
    let select = format!(
        "SELECT id, CAST(unique_key IS NOT NULL OR concurrency_key IS NOT NULL AS SIGNED) AS has_keys \
         FROM queue_jobs WHERE id IN (SELECT id FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
           WHERE state = 'running' AND order_us <= {}) LIMIT {RESCUE_BATCH}",
        now_us!()
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(pool).await?;
    let (mut batch, mut batches) = (Vec::new(), Vec::new());
    for row in &rows {
        let id: JobId = row.try_get("id")?;
        // A job with keys goes alone: it may have to pass a key on, and a key is a lock.
        if row.try_get::<i64, _>("has_keys")? == 0 {
            batch.push(id);
        } else {
            batches.push(vec![id]);
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    let mut taken = 0;
    for batch in batches {
        taken += retrying!(rescue_batch(pool, &batch, config));
    }
    Ok(taken)
}

async fn rescue_batch(pool: &MySqlPool, ids: &[JobId], config: &QueueConfig) -> Result<usize, QueueError> {
    let mut tx = sql::begin(pool).await?;
    // A row that is locked belongs to a handler's fenced transaction, or is being acked: not ours.
    let select = format!(
        "SELECT {HELD_COLUMNS} FROM queue_jobs FORCE INDEX (PRIMARY) WHERE id IN ({}) AND state = 'running' AND order_us <= {} \
         ORDER BY id FOR UPDATE SKIP LOCKED",
        id_list(ids.iter().copied()),
        now_us!()
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(&mut *tx).await?;
    let lost: Vec<Held> = rows.iter().map(Held::from_row).collect::<Result<_, _>>()?;
    let decisions: Vec<_> = lost
        .iter()
        .map(|held| (held, ack::decide(held, &End::LeaseLost, config)))
        .collect();
    ack::write(&mut tx, &decisions, config, Within::Callers).await?;
    tx.commit().await?;
    for held in &lost {
        tracing::warn!(job.id = %held.id, job.kind = held.kind, losses = held.lease_losses + 1, "a job's lease was lost");
    }
    Ok(lost.len())
}

/// Deletes finished jobs past their retention, in small batches, and forgets workers that are long gone. Answers how
/// many jobs.
pub(crate) async fn prune(pool: &MySqlPool, config: &QueueConfig) -> Result<u64, QueueError> {
    let ages = [
        (State::Done, config.retention.done),
        (State::Cancelled, config.retention.cancelled),
        (State::Failed, config.retention.failed),
    ];
    let mut pruned = 0;
    for (state, age) in ages {
        let select = format!(
            "SELECT DISTINCT kind FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) WHERE state = '{state}'"
        );
        let kinds: Vec<String> = sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(pool).await?;
        for kind in &kinds {
            loop {
                let deleted = retrying!(prune_batch(pool, state, kind, age));
                pruned += deleted;
                if deleted < PRUNE_BATCH as u64 {
                    break;
                }
                tokio::time::sleep(PRUNE_PAUSE).await;
            }
        }
    }
    sqlx::query("DELETE FROM queue_workers WHERE seen_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND")
        .bind(FORGET_WORKERS_AFTER.as_secs())
        .execute(pool)
        .await?;
    Ok(pruned)
}

async fn prune_batch(pool: &MySqlPool, state: State, kind: &str, age: Duration) -> Result<u64, QueueError> {
    let mut tx = sql::begin(pool).await?;
    let select = format!(
        "SELECT id FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
         WHERE state = '{state}' AND kind = ? AND order_us < {} - ? \
         ORDER BY order_us, id LIMIT {PRUNE_BATCH} FOR UPDATE SKIP LOCKED",
        now_us!()
    );
    let ids: Vec<JobId> = sqlx::query_scalar(AssertSqlSafe(select))
        .bind(kind)
        .bind(micros(age))
        .fetch_all(&mut *tx)
        .await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let delete = format!(
        "DELETE jobs FROM queue_jobs AS jobs FORCE INDEX (PRIMARY) WHERE id IN ({}) AND state = '{state}'",
        id_list(ids.iter().copied())
    );
    let deleted = sqlx::raw_sql(AssertSqlSafe(delete))
        .execute(&mut *tx)
        .await?
        .rows_affected();
    tx.commit().await?;
    Ok(deleted)
}

/// Counts all jobs; the slow part, done by one worker at a time, seldom.
pub(crate) async fn count(pool: &MySqlPool) -> Result<(), QueueError> {
    let counts: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT kind, CAST(state AS CHAR), COUNT(*) FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
         GROUP BY state, kind",
    )
    .fetch_all(pool)
    .await?;
    if !counts.is_empty() {
        let mut insert: QueryBuilder<MySql> =
            QueryBuilder::new("INSERT INTO queue_counts (kind, state, jobs, counted_at) ");
        insert.push_values(padded(&counts), |mut row, (kind, state, jobs)| {
            row.push_bind(kind)
                .push_bind(state)
                .push_bind(jobs)
                .push("UTC_TIMESTAMP(6)");
        });
        insert.push(" ON DUPLICATE KEY UPDATE jobs = VALUES(jobs), counted_at = VALUES(counted_at)");
        insert.build().execute(pool).await?;
    }
    // What is left of the count before has no jobs any more. No transaction: nobody minds a moment between the two.
    sqlx::query("DELETE FROM queue_counts WHERE counted_at < UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND")
        .bind(micros(COUNT_REST) / 2)
        .execute(pool)
        .await?;
    Ok(())
}
