//! Real worker processes: killed, stopped and continued, terminated, cut off from the database.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use apalis_mariadb::{JobId, NewJob, Queue, State};
use serde_json::json;
use sqlx::{MySqlPool, Row};
use tokio::time::Instant;

use crate::keys::assert_no_keys_left;
use crate::support::{enqueue, job, queue, until, until_state};

const LEASE: Duration = Duration::from_secs(3);

/// A worker process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    async fn start(pool: &MySqlPool) -> Self {
        Self::start_with(pool, &[]).await
    }

    async fn start_with(pool: &MySqlPool, settings: &[(&str, &str)]) -> Self {
        let database: String = sqlx::query_scalar("SELECT DATABASE()")
            .fetch_one(pool)
            .await
            .unwrap();
        let url = std::env::var("DATABASE_URL").unwrap();
        // mysql://user@host/database?socket=/some/path
        let (url, options) = url.split_once('?').unwrap_or((&url, ""));
        let server = url.rsplit_once('/').unwrap().0;
        Self::start_on(&format!("{server}/{database}?{options}"), settings)
    }

    pub(crate) fn start_on(url: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_logging_to(url, settings, Stdio::inherit())
    }

    pub(crate) fn start_logging_to(url: &str, settings: &[(&str, &str)], log: Stdio) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_queue-test-worker"))
            .env("DATABASE_URL", url)
            .env("LEASE_MS", LEASE.as_millis().to_string())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) async fn prepare(pool: &MySqlPool) -> Queue {
    for table in [
        "CREATE TABLE test_runs (job_id BINARY(16) NOT NULL, pid INT UNSIGNED NOT NULL)",
        "CREATE TABLE test_notes (job_id BINARY(16) NOT NULL, pid INT UNSIGNED NOT NULL)",
        "CREATE TABLE test_bounces (job_id BINARY(16) NOT NULL)",
    ] {
        sqlx::query(table).execute(pool).await.unwrap();
    }
    queue(pool)
}

async fn hold(queue: &Queue) -> JobId {
    enqueue(queue, NewJob::new("hold", &json!({})).unwrap()).await.id
}

async fn workers(queue: &Queue, wanted: usize) {
    until(Duration::from_secs(10), async || {
        let workers = queue.list_workers().await.unwrap();
        if workers.len() == wanted {
            Ok(())
        } else {
            Err(json!(workers))
        }
    })
    .await;
}

/// Until the job runs under another claim than the first.
async fn until_taken_over(queue: &Queue, id: JobId) -> Duration {
    let before = job(queue, id).await;
    let started = Instant::now();
    until(Duration::from_secs(20), async || {
        let now = job(queue, id).await;
        if now.state == State::Running && now.worker != before.worker {
            Ok(())
        } else {
            Err(json!(now))
        }
    })
    .await;
    started.elapsed()
}

#[sqlx::test]
async fn a_killed_workers_job_runs_elsewhere_soon_after_its_lease(pool: MySqlPool) {
    let queue = prepare(&pool).await;
    let mut killed = Process::start(&pool).await;
    let id = hold(&queue).await;
    until_state(&queue, id, State::Running).await;
    let _other = Process::start(&pool).await;
    workers(&queue, 2).await;
    killed.0.kill().unwrap();
    let took = until_taken_over(&queue, id).await;
    assert!(took < LEASE + Duration::from_secs(2), "{took:?}");
    assert_eq!(
        (job(&queue, id).await.lease_losses, job(&queue, id).await.attempts),
        (1, 0)
    );
}

#[sqlx::test]
async fn a_terminated_workers_job_runs_elsewhere_within_a_second(pool: MySqlPool) {
    let queue = prepare(&pool).await;
    let terminated = Process::start(&pool).await;
    let id = hold(&queue).await;
    until_state(&queue, id, State::Running).await;
    let _other = Process::start(&pool).await;
    workers(&queue, 2).await;
    terminated.signal("-TERM");
    let took = until_taken_over(&queue, id).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(
        (job(&queue, id).await.lease_losses, job(&queue, id).await.attempts),
        (0, 0)
    );
    workers(&queue, 1).await;
}

#[sqlx::test]
async fn a_worker_that_stood_still_past_its_lease_writes_nothing(pool: MySqlPool) {
    let queue = prepare(&pool).await;
    let stopped = Process::start(&pool).await;
    let id = enqueue(&queue, NewJob::new("note", &json!({ "sleep_ms": 1500 })).unwrap())
        .await
        .id;
    until_state(&queue, id, State::Running).await;
    stopped.signal("-STOP");
    let _other = Process::start(&pool).await;
    let done = until_state(&queue, id, State::Done).await;
    assert_eq!(done.lease_losses, 1);
    stopped.signal("-CONT");
    until(Duration::from_secs(10), async || {
        let bounces: Vec<JobId> = sqlx::query_scalar("SELECT job_id FROM test_bounces")
            .fetch_all(&pool)
            .await
            .unwrap();
        if bounces == [id] {
            Ok(())
        } else {
            Err(json!(bounces))
        }
    })
    .await;
    let writers: Vec<u32> = sqlx::query_scalar("SELECT pid FROM test_notes")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(writers.len(), 1);
    assert_ne!(writers[0], stopped.0.id());
    let after = job(&queue, id).await;
    assert_eq!((after.state, after.finished_at), (State::Done, done.finished_at));
}

/// One in `keyed` shares a key, one in `keyed` is unique.
pub(crate) async fn enqueue_notes(queue: &Queue, jobs: usize, sleep_ms: u64, keyed: usize) {
    let notes: Vec<NewJob> = (0..jobs)
        .map(|n| {
            let note = NewJob::new("note", &json!({ "sleep_ms": sleep_ms })).unwrap();
            match n % keyed {
                0 => note.concurrency_key(format!("key {}", n % (7 * keyed))),
                1 => note.unique_key(format!("unique {n}")),
                _ => note,
            }
        })
        .collect();
    let mut tx = queue.begin().await.unwrap();
    queue.enqueue_many(&mut tx, notes).await.unwrap();
    tx.commit().await.unwrap();
}

pub(crate) async fn until_all_noted_once(pool: &MySqlPool, jobs: i64) {
    until(Duration::from_mins(5), async || {
        let rows = sqlx::query(
            "SELECT CAST(state AS CHAR), COUNT(*) FROM queue_jobs WHERE kind = 'note' GROUP BY state",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        let states: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        if states.get("done") == Some(&jobs) {
            Ok(())
        } else {
            Err(json!(states))
        }
    })
    .await;
    let (notes, jobs_noted): (i64, i64) =
        sqlx::query_as("SELECT COUNT(*), COUNT(DISTINCT job_id) FROM test_notes")
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!((notes, jobs_noted), (jobs, jobs));
    assert_no_keys_left(pool).await;
}

/// Eight workers, twenty thousand jobs, three workers killed on the way.
#[sqlx::test]
async fn every_job_runs_once_unless_its_worker_was_killed(pool: MySqlPool) {
    const JOBS: usize = 20_000;
    const WORKERS: usize = 8;
    // Heartbeats of so many processes on few cores may come late.
    let settings = [("LEASE_MS", "8000"), ("CONCURRENCY", "4"), ("PREFETCH", "12")];
    let queue = prepare(&pool).await;
    enqueue_notes(&queue, JOBS, 0, 50).await;
    let mut processes = Vec::new();
    for _ in 0..WORKERS {
        processes.push(Process::start_with(&pool, &settings).await);
    }
    let mut killed = Vec::new();
    for _ in 0..3 {
        let noted = count(&pool, "SELECT COUNT(*) FROM test_notes").await;
        until(Duration::from_mins(1), async || {
            match count(&pool, "SELECT COUNT(*) FROM test_notes").await {
                more if more > noted + 1000 => Ok(()),
                more => Err(json!(more)),
            }
        })
        .await;
        let mut victim = processes.remove(0);
        victim.0.kill().unwrap();
        killed.push(victim.0.id().to_string());
        processes.push(Process::start_with(&pool, &settings).await);
    }
    until_all_noted_once(&pool, i64::try_from(JOBS).unwrap()).await;

    let killed = killed.join(", ");
    let runs = count(&pool, "SELECT COUNT(*) FROM test_runs").await;
    let jobs_run = count(&pool, "SELECT COUNT(DISTINCT job_id) FROM test_runs").await;
    assert_eq!(jobs_run, i64::try_from(JOBS).unwrap());
    let by_survivors = format!(
        "SELECT COALESCE(MAX(runs), 0) FROM \
         (SELECT COUNT(*) AS runs FROM test_runs WHERE pid NOT IN ({killed}) GROUP BY job_id) AS by_job"
    );
    assert_eq!(count(&pool, &by_survivors).await, 1);
    // What ran again had lost its lease, and only the killed ones lost any: at most what they held.
    let losses = count(&pool, "SELECT CAST(SUM(lease_losses) AS SIGNED) FROM queue_jobs").await;
    let again = runs - jobs_run;
    assert!(
        again <= losses && losses <= 3 * 3 * 16,
        "{again} ran again, {losses} leases lost"
    );
    let failures = count(&pool, "SELECT CAST(SUM(attempts) AS SIGNED) FROM queue_jobs").await;
    assert_eq!(failures, 0);
}

pub(crate) async fn count(pool: &MySqlPool, query: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
        .fetch_one(pool)
        .await
        .unwrap()
}

/// Cuts every connection but ours, again and again. Notes end in their handlers' transactions, the others by the worker's
/// own hand.
#[sqlx::test]
async fn lost_connections_lose_no_job_and_repeat_none(pool: MySqlPool) {
    const OTHERS: i64 = 10_000;
    let queue = prepare(&pool).await;
    enqueue_notes(&queue, 2000, 5, 10).await;
    let others = (0..OTHERS)
        .map(|n| NewJob::new("nothing", &json!({ "n": n })).unwrap())
        .collect();
    let mut tx = queue.begin().await.unwrap();
    queue.enqueue_many(&mut tx, others).await.unwrap();
    tx.commit().await.unwrap();
    let database: String = sqlx::query_scalar("SELECT DATABASE()")
        .fetch_one(&pool)
        .await
        .unwrap();
    // Leases that two busy processes keep on a machine that is busy otherwise.
    let patient = [("LEASE_MS", "15000")];
    let _processes = [
        Process::start_with(&pool, &patient).await,
        Process::start_with(&pool, &patient).await,
    ];
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let others: Vec<u64> = sqlx::query_scalar(
            "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID()",
        )
        .bind(&database)
        .fetch_all(&pool)
        .await
        .unwrap();
        for connection in others {
            // It may be gone by now, and it may be one of our own pool's.
            let kill = format!("KILL CONNECTION {connection}");
            let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(kill)).execute(&pool).await;
        }
    }
    until_all_noted_once(&pool, 2000).await;
    until(Duration::from_mins(2), async || {
        match count(
            &pool,
            "SELECT COUNT(*) FROM queue_jobs WHERE kind = 'nothing' AND state = 'done'",
        )
        .await
        {
            OTHERS => Ok(()),
            done => Err(json!(done)),
        }
    })
    .await;
    let losses: i64 = sqlx::query_scalar("SELECT CAST(SUM(lease_losses) AS SIGNED) FROM queue_jobs")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(losses, 0);
}
