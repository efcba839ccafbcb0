//! How soon a job starts in another, idle process; how soon it starts again after that process is gone; what an idle
//! process costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use apalis_mariadb::{Job, JobId, NewJob, Queue, State};
use rand::RngExt;
use serde_json::json;

use crate::database::Database;
use crate::worker::Worker;

const STARTS: usize = 200;
const PATIENCE: Duration = Duration::from_mins(2);
const IDLE: Duration = Duration::from_secs(20);
const LEASE_MS: usize = 5000;

pub(crate) async fn measure(database: &Database) -> Result<()> {
    database.clear().await?;
    let queue = database.queue();
    let worker = Worker::start(database, &[("CONCURRENCY", 4)])?;
    until(&queue, enqueue(&queue, "nothing").await?, State::Done).await?;
    let mut waits = Vec::new();
    for _ in 0..STARTS {
        let pause = rand::rng().random_range(200..700);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let job = until(&queue, enqueue(&queue, "nothing").await?, State::Done).await?;
        waits.push(
            (job.started_at.context("started")? - job.created_at)
                .num_microseconds()
                .unwrap_or(0),
        );
    }
    drop(worker);
    waits.sort_unstable();
    println!(
        "\n## Enqueue in one process, start in another that is idle: milliseconds\n\n| p50 | p99 | max |\n|---|---|---|"
    );
    let at = |share: usize| {
        f64::from(i32::try_from(waits[(waits.len() - 1) * share / 100]).unwrap_or(i32::MAX)) / 1e3
    };
    println!("| {:.1} | {:.1} | {:.1} |", at(50), at(99), at(100));

    println!(
        "\n## Start elsewhere after a worker is gone (lease {LEASE_MS} ms): milliseconds\n\n| how | after |\n|---|---|"
    );
    for killed in [true, false] {
        let settings = [("CONCURRENCY", 4), ("LEASE_MS", LEASE_MS)];
        let mut first = Worker::start(database, &settings)?;
        let id = enqueue(&queue, "hold").await?;
        let before = until(&queue, id, State::Running).await?;
        let _second = Worker::start(database, &settings)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let gone = Instant::now();
        if killed {
            first.kill()?;
        } else {
            first.terminate()?;
        }
        loop {
            let now = queue.find_job(id).await?.context("the job")?;
            if now.state == State::Running && now.worker != before.worker {
                break;
            }
            anyhow::ensure!(gone.elapsed() < PATIENCE, "nobody took the job over");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        println!(
            "| {} | {} |",
            if killed { "kill -9" } else { "SIGTERM" },
            gone.elapsed().as_millis()
        );
        database.clear().await?;
    }
    Ok(())
}

/// What one idle worker process costs. The statements are the server's, so nobody else must use it.
pub(crate) async fn measure_idle(database: &Database) -> Result<()> {
    database.clear().await?;
    let worker = Worker::start(database, &[("CONCURRENCY", 4)])?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (ticks_before, _) = worker.usage()?;
    let before = statements(database).await?;
    tokio::time::sleep(IDLE).await;
    let after = statements(database).await?;
    let (ticks, resident_kib) = worker.usage()?;
    let seconds = IDLE.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (rate, cpu) = (
        (after - before - 1) as f64 / seconds,
        (ticks - ticks_before) as f64 / seconds,
    );
    println!(
        "\n## One idle worker process\n\n| statements/s | CPU of the process | resident memory |\n|---|---|---|"
    );
    println!(
        "| {rate:.2} | {cpu:.2} % of a core | {} MiB |",
        resident_kib / 1024
    );
    Ok(())
}

async fn statements(database: &Database) -> Result<u64> {
    let (_, questions): (String, String) = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Questions'")
        .fetch_one(&database.pool)
        .await?;
    Ok(questions.parse()?)
}

async fn enqueue(queue: &Queue, kind: &str) -> Result<JobId> {
    let mut tx = queue.begin().await?;
    let enqueued = queue.enqueue(&mut tx, NewJob::new(kind, &json!({}))?).await?;
    tx.commit().await?;
    Ok(enqueued.id)
}

async fn until(queue: &Queue, id: JobId, state: State) -> Result<Job> {
    let started = Instant::now();
    loop {
        let job = queue.find_job(id).await?.context("the job")?;
        if job.state == state {
            return Ok(job);
        }
        anyhow::ensure!(started.elapsed() < PATIENCE, "the job stays {}", job.state);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
