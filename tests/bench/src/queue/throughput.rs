//! Jobs a second at growing backlogs: the raw loop, and worker processes through apalis.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;

use crate::database::Database;
use crate::raw;
use crate::worker::Worker;

/// Enough for every cell that starts from "none waiting".
const FRESH: u64 = 40_000;

struct Setup {
    concurrency: usize,
    /// Claimed ahead, so that a batch is `concurrency` and this together.
    prefetch: usize,
}

const SETUPS: [Setup; 3] = [
    Setup {
        concurrency: 1,
        prefetch: 0,
    },
    Setup {
        concurrency: 16,
        prefetch: 0,
    },
    Setup {
        concurrency: 16,
        prefetch: 84,
    },
];

pub(crate) async fn measure(database: &Database) -> Result<()> {
    let time = Duration::from_secs(
        std::env::var("SECONDS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(4),
    );
    let backlogs = std::env::var("WAITING").unwrap_or_else(|_| "0,10000,100000,1000000".to_owned());
    println!("\n## Throughput, jobs a second\n");
    println!(
        "| waiting + finished | raw b1 | raw b16 | raw b100 | raw b100 ×4 | c1 ×1 | c1 ×4 | c16 ×1 | c16 ×4 | c16 b100 ×1 | c16 b100 ×4 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for backlog in backlogs.split(',') {
        let waiting: u64 = backlog.trim().parse()?;
        database.clear().await?;
        database.fill("ready", waiting).await?;
        database
            .fill("done", if waiting == 1_000_000 { waiting } else { 0 })
            .await?;
        let mut line = format!("| {waiting} |");
        for (loops, batch) in [(1, 1), (1, 16), (1, 100), (4, 100)] {
            prepare(database, waiting).await?;
            let rate = raw::jobs_per_second(database, loops, batch, time).await?;
            write!(line, " {rate:.0} |")?;
        }
        for setup in &SETUPS {
            for processes in [1, 4] {
                prepare(database, waiting).await?;
                let rate = through_apalis(database, setup, processes, time).await?;
                write!(line, " {rate:.0} |")?;
            }
        }
        println!("{line}");
    }
    Ok(())
}

/// The backlog as it was before the last cell, and nothing left over from it.
async fn prepare(database: &Database, waiting: u64) -> Result<()> {
    let finished = if waiting == 1_000_000 { waiting } else { 0 };
    for (state, wanted) in [("ready", waiting.max(FRESH)), ("done", finished)] {
        let there: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM queue_jobs WHERE state = ? AND kind = 'nothing'")
                .bind(state)
                .fetch_one(&database.pool)
                .await?;
        let there = u64::try_from(there)?;
        if there < wanted {
            database.fill(state, wanted - there).await?;
        } else if there > wanted {
            sqlx::query(
                "DELETE FROM queue_jobs WHERE state = ? AND kind = 'nothing' ORDER BY state DESC, kind DESC, order_us DESC \
                 LIMIT ?",
            )
            .bind(state)
            .bind(there - wanted)
            .execute(&database.pool)
            .await?;
        }
    }
    database.settle().await
}

async fn through_apalis(database: &Database, setup: &Setup, processes: usize, time: Duration) -> Result<f64> {
    let started_us = database.now_us().await?;
    let settings = [("CONCURRENCY", setup.concurrency), ("PREFETCH", setup.prefetch)];
    let mut workers = Vec::new();
    for _ in 0..processes {
        workers.push(Worker::start(database, &settings)?);
    }
    while database.done_since(started_us).await?.0 == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(time).await;
    let until_us = database.now_us().await?;
    for worker in &workers {
        worker.terminate()?;
    }
    for worker in workers {
        worker.wait()?;
    }
    let (jobs, span_us) = database.done_since(started_us).await?;
    // All of a small backlog may have been done before the time was over.
    let span_us = span_us.min(until_us - started_us).max(1);
    #[expect(clippy::cast_precision_loss, reason = "no run has that many jobs")]
    Ok(jobs as f64 * 1e6 / span_us as f64)
}
