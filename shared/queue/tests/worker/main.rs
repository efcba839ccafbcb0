//! A worker program for tests and benchmarks to start, stop and kill. It serves four kinds:
//!
//! - `note`: writes a row into `test_runs`, sleeps, then writes a row into `test_notes` and finishes the job in the same
//!   transaction; a write that the fence refuses is noted in `test_bounces` instead.
//! - `hold`: runs until it is cancelled.
//! - `nothing`: does nothing, for measuring. With `JOBS`, the program says how long so many of them took, until the last of
//!   their ends was written, and ends.
//! - `various`: some fail once, some snooze once, some have an output; for long runs.
//!
//! Settings come from the environment: `DATABASE_URL`, `LEASE_MS`, `CONCURRENCY`, `PREFETCH`, `BATCH`, `GRACE_MS`,
//! `KEEP_MS`, `JOBS`.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use apalis_core::task::data::Data;
use apalis_mariadb::{
    Claim, JobKind, Outcome, Queue, QueueConfig, QueueError, Retention, StorageConfig, WorkerSet,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::MySqlPool;
use sqlx::mysql::MySqlPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

#[derive(Deserialize)]
struct Note {
    sleep_ms: u64,
}

impl JobKind for Note {
    const KIND: &'static str = "note";
}

#[derive(Deserialize)]
struct Hold {}

impl JobKind for Hold {
    const KIND: &'static str = "hold";
}

#[derive(Deserialize)]
struct Nothing {}

impl JobKind for Nothing {
    const KIND: &'static str = "nothing";
}

async fn note(job: Note, claim: Claim, queue: Data<Queue>) -> Result<Outcome, QueueError> {
    sqlx::query("INSERT INTO test_runs (job_id, pid) VALUES (?, ?)")
        .bind(claim.job_id())
        .bind(std::process::id())
        .execute(queue.pool())
        .await?;
    tokio::time::sleep(Duration::from_millis(job.sleep_ms)).await;
    match write_note(&claim, &queue).await {
        Err(error) if error.is_claim_lost() => {
            sqlx::query("INSERT INTO test_bounces (job_id) VALUES (?)")
                .bind(claim.job_id())
                .execute(queue.pool())
                .await?;
            Ok(Outcome::Cancelled)
        }
        other => other.map(|()| Outcome::done()),
    }
}

async fn write_note(claim: &Claim, queue: &Queue) -> Result<(), QueueError> {
    let mut tx = queue.begin().await?;
    claim.fence(&mut tx).await?;
    sqlx::query("INSERT INTO test_notes (job_id, pid) VALUES (?, ?)")
        .bind(claim.job_id())
        .bind(std::process::id())
        .execute(&mut *tx)
        .await?;
    claim.complete(&mut tx, &Value::Null).await?;
    Ok(tx.commit().await?)
}

async fn hold(_: Hold, claim: Claim, _: Data<()>) -> Outcome {
    claim.cancellation().cancelled().await;
    Outcome::Cancelled
}

async fn nothing(_: Nothing, _: Claim, count: Data<Arc<Count>>) -> Outcome {
    count.add();
    Outcome::done()
}

/// The `nothing` jobs that have run.
struct Count {
    wanted: usize,
    jobs: AtomicUsize,
    first: OnceLock<Instant>,
    reached: Notify,
}

impl Count {
    fn to(wanted: usize) -> Arc<Self> {
        Arc::new(Self {
            wanted,
            jobs: AtomicUsize::new(0),
            first: OnceLock::new(),
            reached: Notify::new(),
        })
    }

    fn add(&self) {
        self.first.get_or_init(Instant::now);
        if self.jobs.fetch_add(1, Ordering::Relaxed) + 1 == self.wanted {
            self.reached.notify_one();
        }
    }

    /// Waits until the last of the wanted jobs is over in the database too, and says how long that took.
    async fn report(&self, pool: &MySqlPool) -> Result<(), sqlx::Error> {
        self.reached.notified().await;
        let running = "SELECT COUNT(*) FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
                       WHERE state = 'running' AND kind = 'nothing'";
        while sqlx::query_scalar::<_, i64>(running).fetch_one(pool).await? > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let seconds = self
            .first
            .get()
            .map_or(0.0, |first| first.elapsed().as_secs_f64());
        println!("{{\"jobs\": {}, \"seconds\": {seconds}}}", self.wanted);
        Ok(())
    }
}

#[derive(Deserialize)]
struct Various {
    n: u32,
}

impl JobKind for Various {
    const KIND: &'static str = "various";
}

async fn various(job: Various, claim: Claim, queue: Data<Queue>) -> Result<Outcome, QueueError> {
    let first = claim.attempt() == 1;
    Ok(match job.n % 7 {
        0 if first => Outcome::Retry {
            error: "not at the first attempt".to_owned(),
            after: None,
        },
        1 if has_snoozed(&queue, &claim).await? => Outcome::done(),
        1 => Outcome::Snooze {
            after: Duration::from_millis(200),
            reason: Some("once".to_owned()),
        },
        2 | 3 => Outcome::Done(json!({ "n": job.n, "text": "x".repeat(200) })),
        _ => Outcome::done(),
    })
}

async fn has_snoozed(queue: &Queue, claim: &Claim) -> Result<bool, QueueError> {
    let job = queue.find_job(claim.job_id()).await?;
    Ok(job.is_some_and(|job| job.snoozes > 0))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let url = std::env::var("DATABASE_URL")?;
    let concurrency = number("CONCURRENCY", 4);
    let pool = MySqlPoolOptions::new()
        .max_connections(u32::try_from(concurrency)? + 4)
        .connect(&url)
        .await?;
    let kept = Duration::from_millis(number("KEEP_MS", 3_600_000) as u64);
    let config = QueueConfig {
        lease: Duration::from_millis(number("LEASE_MS", 3000) as u64),
        backoff_base: Duration::from_millis(100),
        backoff_cap: Duration::from_millis(500),
        batch: number("BATCH", 100),
        retention: Retention {
            done: kept,
            cancelled: kept,
            failed: kept,
        },
        ..QueueConfig::default()
    };
    let queue = Queue::new(pool.clone(), config);
    let count = Count::to(number("JOBS", 0));
    let counted = Arc::clone(&count);
    let mut terminated = signal(SignalKind::terminate())?;
    let storage = StorageConfig {
        concurrency,
        prefetch: number("PREFETCH", 0),
        timeout: None,
    };
    WorkerSet::new(queue.clone())
        .register(storage.clone(), queue.clone(), note)?
        .register(storage.clone(), queue, various)?
        .register(storage.clone(), (), hold)?
        .register(storage, count, nothing)?
        .run(
            async move {
                tokio::select! {
                    _ = terminated.recv() => {}
                    reported = counted.report(&pool) => {
                        if let Err(error) = reported {
                            eprintln!("the running jobs could not be counted: {error}");
                        }
                    }
                }
            },
            Duration::from_millis(number("GRACE_MS", 5000) as u64),
        )
        .await?;
    Ok(())
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
