//! Workers under steady load for a long time: does their memory stay flat?

use std::time::{Duration, Instant};

use anyhow::Result;
use apalis_mariadb::NewJob;
use serde_json::json;

use crate::cost::{Reading, resident_kib};
use crate::database::Database;
use crate::worker::Worker;

const PROCESSES: usize = 2;
/// Every so often, so many jobs: plain ones, ones with outputs and keys, and ones that fail and snooze on the way.
const PERIOD: Duration = Duration::from_millis(100);
const JOBS: usize = 50;
const LOOK: Duration = Duration::from_mins(1);

pub(crate) async fn run(database: &Database, time: Duration) -> Result<()> {
    let settings = [("CONCURRENCY", 16), ("PREFETCH", 16), ("KEEP_MS", 120_000)];
    let workers = [
        Worker::start(database, &settings)?,
        Worker::start(database, &settings)?,
    ];
    let pids = workers.each_ref().map(Worker::pid);
    let started = Instant::now();
    let feeding = tokio::spawn(feed(database.queue(), started, time));
    println!("| minute | resident, KiB | CPU, s | jobs done | waiting |");
    println!("|---|---|---|---|---|");
    // Seconds and KiB, of each process.
    let mut seen: [Vec<(f64, f64)>; PROCESSES] = Default::default();
    while started.elapsed() < time && !feeding.is_finished() {
        tokio::time::sleep(LOOK.min(time)).await;
        let mut resident = Vec::new();
        for (pid, seen) in pids.iter().zip(&mut seen) {
            let kib = resident_kib(*pid)?;
            resident.push(kib.to_string());
            seen.push((started.elapsed().as_secs_f64(), f64::from(u32::try_from(kib)?)));
        }
        let cost = Reading::take(database, &pids).await?;
        let (done, waiting): (i64, i64) = sqlx::query_as(
            "SELECT CAST(COALESCE(SUM(state = 'done'), 0) AS SIGNED), CAST(COALESCE(SUM(state = 'ready'), 0) AS SIGNED) \
             FROM queue_jobs",
        )
        .fetch_one(&database.pool)
        .await?;
        println!(
            "| {:.0} | {} | {:.1} | {done} | {waiting} |",
            started.elapsed().as_secs_f64() / 60.0,
            resident.join(", "),
            cost.client_us / 1e6,
        );
    }
    feeding.await??;
    for (pid, seen) in pids.iter().zip(&seen) {
        // What caches and allocators take in the beginning is not growth.
        let later = &seen[seen.len() / 2..];
        let (slope, mean) = slope(later);
        println!(
            "process {pid}, second half: {:+.0} KiB an hour over {} looks, {:+.2} % of {mean:.0} KiB",
            slope * 3600.0,
            later.len(),
            slope * 3600.0 / mean * 100.0,
        );
    }
    for worker in &workers {
        worker.terminate()?;
    }
    for worker in workers {
        worker.wait()?;
    }
    Ok(())
}

async fn feed(queue: apalis_mariadb::Queue, started: Instant, time: Duration) -> Result<()> {
    let mut ticks = tokio::time::interval(PERIOD);
    let mut n = 0_usize;
    while started.elapsed() < time {
        ticks.tick().await;
        let mut jobs = Vec::with_capacity(JOBS);
        for _ in 0..JOBS {
            n += 1;
            jobs.push(match n % 10 {
                0 => NewJob::new("various", &json!({ "n": n }))?.concurrency_key(format!("key {}", n % 70)),
                1 => NewJob::new("various", &json!({ "n": n }))?.unique_key(format!("unique {n}")),
                2 | 3 => NewJob::new("various", &json!({ "n": n }))?,
                _ => NewJob::new("nothing", &json!({ "n": n }))?,
            });
        }
        let mut tx = queue.begin().await?;
        queue.enqueue_many(&mut tx, jobs).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Least squares; and the mean.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let count = f64::from(u32::try_from(points.len().max(1)).unwrap_or(u32::MAX));
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let under: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (if under > 0.0 { over / under } else { 0.0 }, mean_y)
}
