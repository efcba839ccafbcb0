//! Enqueueing, in the caller's transaction.

use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::error::QueueError;
use crate::id::JobId;
use crate::keys;
use crate::new_job::{Enqueued, NewJob};
use crate::queue::Queue;
use crate::sql::{micros, now_us, text_literal};
use crate::state::State;

/// What one point of priority is worth: a minute of waiting.
const PRIORITY_POINT_US: i64 = 60_000_000;
/// Bounds of one INSERT, well under the server's default packet of 16 MiB.
const MAX_ROWS: usize = 1000;
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl Queue {
    /// Puts a job in, as part of the caller's transaction; enqueue last in it. A job with a unique key that an active
    /// job of the kind has is not put in: that one is returned. Call [`notify`](Self::notify) after the commit.
    pub async fn enqueue(&self, conn: &mut MySqlConnection, job: NewJob) -> Result<Enqueued, QueueError> {
        job.check_lengths()?;
        enqueue_one(conn, &job).await
    }

    /// Puts many jobs in, in few statements; the answers are in the jobs' order.
    pub async fn enqueue_many(
        &self,
        conn: &mut MySqlConnection,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Enqueued>, QueueError> {
        for job in &jobs {
            job.check_lengths()?;
        }
        // Keys are locks. Everybody who takes several takes them in the same order.
        let mut keyed: Vec<usize> = (0..jobs.len()).filter(|&at| has_keys(&jobs[at])).collect();
        keyed.sort_by_key(|&at| (&jobs[at].concurrency_key, &jobs[at].kind, &jobs[at].unique_key));
        let mut answers: Vec<Option<Enqueued>> = vec![None; jobs.len()];
        for at in keyed {
            answers[at] = Some(enqueue_one(conn, &jobs[at]).await?);
        }

        let mut rows = Vec::new();
        let mut bytes = 0;
        for (job, answer) in jobs.iter().zip(&mut answers) {
            if answer.is_some() {
                continue;
            }
            if rows.len() == MAX_ROWS || bytes + job.payload.len() > MAX_BYTES {
                insert_many(conn, &rows).await?;
                rows.clear();
                bytes = 0;
            }
            let id = JobId::generate();
            bytes += job.payload.len();
            rows.push((id, birth_state(job), job));
            *answer = Some(Enqueued { id, existing: false });
        }
        insert_many(conn, &rows).await?;
        Ok(answers.into_iter().flatten().collect())
    }
}

fn has_keys(job: &NewJob) -> bool {
    job.unique_key.is_some() || job.concurrency_key.is_some()
}

/// The state of a new job, unless its concurrency key is taken.
fn birth_state(job: &NewJob) -> State {
    if job.delay.is_zero() {
        State::Ready
    } else {
        State::Scheduled
    }
}

async fn enqueue_one(conn: &mut MySqlConnection, job: &NewJob) -> Result<Enqueued, QueueError> {
    let id = JobId::generate();
    let mut state = birth_state(job);
    // A delayed job takes its concurrency key when it is due: it must not hold up others until then.
    let key = job.concurrency_key.as_deref().filter(|_| state == State::Ready);
    if let Some(key) = key
        && !keys::take_concurrency(conn, key, id).await?
    {
        state = State::Blocked;
    }
    if let Some(unique_key) = &job.unique_key {
        let active = keys::take_unique(conn, &job.kind, unique_key, id).await?;
        if active != id {
            if let Some(key) = key {
                keys::drop_concurrency(conn, key, id).await?;
            }
            return Ok(Enqueued {
                id: active,
                existing: true,
            });
        }
    }
    insert_one(conn, id, state, job).await?;
    if let Some(key) = key
        && state == State::Blocked
    {
        keys::wait_for_concurrency(conn, key, id).await?;
    }
    Ok(Enqueued { id, existing: false })
}

const COLUMNS: &str = "INSERT INTO queue_jobs (id, kind, state, order_us, rank_us, max_attempts, priority, tenant, \
     unique_key, concurrency_key, trace_context, payload, created_at) VALUES ";

async fn insert_one(
    conn: &mut MySqlConnection,
    id: JobId,
    state: State,
    job: &NewJob,
) -> Result<(), QueueError> {
    let (order_offset, rank_offset) = offsets(state, job);
    let insert = format!(
        "{COLUMNS}(?, ?, ?, {now} + ?, {now} + ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))",
        now = now_us!()
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(id)
        .bind(&job.kind)
        .bind(state.as_str())
        .bind(order_offset)
        .bind(rank_offset)
        .bind(job.max_attempts)
        .bind(job.priority)
        .bind(&job.tenant)
        .bind(&job.unique_key)
        .bind(&job.concurrency_key)
        .bind(&job.trace_context)
        .bind(&job.payload)
        .execute(conn)
        .await?;
    Ok(())
}

/// Jobs without keys. Values are literals: preparing a statement of thousands of placeholders for a single use takes
/// longer than executing it.
async fn insert_many(conn: &mut MySqlConnection, rows: &[(JobId, State, &NewJob)]) -> Result<(), QueueError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut insert = COLUMNS.to_owned();
    for (at, (id, state, job)) in rows.iter().enumerate() {
        let (order_offset, rank_offset) = offsets(*state, job);
        let text = |text: &Option<String>| text.as_deref().map_or_else(|| "NULL".to_owned(), text_literal);
        let row = format!(
            "{comma}(x'{id}', '{kind}', '{state}', {now} + {order_offset}, {now} + {rank_offset}, {max_attempts}, \
             {priority}, {tenant}, NULL, NULL, {trace_context}, {payload}, UTC_TIMESTAMP(6))",
            comma = if at == 0 { "" } else { ", " },
            id = id.as_uuid().simple(),
            kind = job.kind,
            now = now_us!(),
            max_attempts = job.max_attempts,
            priority = job.priority,
            tenant = text(&job.tenant),
            trace_context = text(&job.trace_context),
            payload = text_literal(&job.payload),
        );
        insert.push_str(&row);
    }
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(conn).await?;
    Ok(())
}

/// Where a new job's `order_us` and `rank_us` are, from now.
fn offsets(state: State, job: &NewJob) -> (i64, i64) {
    let rank_offset = micros(job.delay) - i64::from(job.priority) * PRIORITY_POINT_US;
    let order_offset = if state == State::Scheduled {
        micros(job.delay)
    } else {
        rank_offset
    };
    (order_offset, rank_offset)
}
