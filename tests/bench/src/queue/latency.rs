//! How soon a job starts in another, idle process; how soon it starts again after that process is gone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use apalis_mariadb::{Job, JobId, NewJob, Queue, State};
use rand::RngExt;
use serde_json::json;

use crate::database::Database;
use crate::report::Report;
use crate::worker::Worker;

const STARTS: usize = 200;
const PATIENCE: Duration = Duration::from_mins(2);
const LEASE_MS: usize = 5000;

pub(crate) async fn measure(database: &Database, quick: bool, report: &mut Report) -> Result<()> {
    database.clear().await?;
    let queue = database.queue();
    let worker = Worker::start(database, &[("CONCURRENCY", 4)])?;
    until(&queue, enqueue(&queue, "nothing").await?, State::Done).await?;
    let mut waits = Vec::new();
    for _ in 0..if quick { STARTS / 8 } else { STARTS } {
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
    let at = |share: usize| {
        f64::from(i32::try_from(waits[(waits.len() - 1) * share / 100]).unwrap_or(i32::MAX)) / 1e3
    };
    report.table("Latency", &["what", "milliseconds"]);
    let (p50, p99, max) = (at(50), at(99), at(100));
    report.row(&[
        "enqueue in one process to start in another, idle one",
        &format!("p50 {p50:.0}, p99 {p99:.0}, max {max:.0}"),
    ]);
    report.bar(
        p50 <= 60.0 && p99 <= 250.0,
        "enqueue to start elsewhere: p50 at most 60 ms, p99 at most 250 ms",
        &format!("{p50:.0} and {p99:.0} ms"),
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
        let took = gone.elapsed().as_millis();
        let (how, most) = if killed {
            ("kill -9", LEASE_MS as u128 + 2000)
        } else {
            ("SIGTERM", 1000)
        };
        report.row(&[
            format!("start elsewhere after {how}, lease {LEASE_MS} ms"),
            took.to_string(),
        ]);
        report.bar(
            took <= most,
            &format!("start elsewhere after {how} within {most} ms"),
            &format!("{took} ms"),
        );
        database.clear().await?;
    }
    Ok(())
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
