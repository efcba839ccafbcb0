//! Enqueueing: one by one, by many at once, in batches, and beside a row of the caller's.

use std::time::{Duration, Instant};

use anyhow::Result;
use apalis_mariadb::{NewJob, Queue};
use serde_json::json;

use crate::database::Database;
use crate::report::Report;

const TIME: Duration = Duration::from_secs(3);

pub(crate) async fn measure(database: &Database, quick: bool, report: &mut Report) -> Result<()> {
    sqlx::raw_sql(
        "CREATE TABLE bench_rows (id BIGINT AUTO_INCREMENT PRIMARY KEY, job_id BINARY(16) NOT NULL)",
    )
    .execute(&database.pool)
    .await?;
    let time = if quick { TIME / 3 } else { TIME };
    report.table("Enqueueing", &["how", "jobs/s"]);
    for (how, tasks, batch, row) in [
        ("one a transaction, 1 task", 1, 1, false),
        ("one a transaction, 16 tasks", 16, 1, false),
        ("one, and a row of the caller's, 1 task", 1, 1, true),
        ("one, and a row of the caller's, 16 tasks", 16, 1, true),
        ("100 a statement, 1 task", 1, 100, false),
        ("1000 a statement, 1 task", 1, 1000, false),
    ] {
        database.clear().await?;
        let started = Instant::now();
        let queue = database.queue();
        let tasks: Vec<_> = (0..tasks)
            .map(|_| tokio::spawn(enqueue(queue.clone(), batch, row, time)))
            .collect();
        let mut jobs = 0;
        for task in tasks {
            jobs += task.await??;
        }
        #[expect(clippy::cast_precision_loss, reason = "no run has that many jobs")]
        let rate = jobs as f64 / started.elapsed().as_secs_f64();
        report.row(&[how, &format!("{rate:.0}")]);
    }
    database.clear().await
}

async fn enqueue(queue: Queue, batch: usize, row: bool, time: Duration) -> Result<usize> {
    let started = Instant::now();
    let mut jobs = 0;
    while started.elapsed() < time {
        let mut tx = queue.begin().await?;
        if batch == 1 {
            let job = NewJob::new("parked", &json!({ "n": jobs }))?;
            let enqueued = queue.enqueue(&mut tx, job).await?;
            if row {
                sqlx::query("INSERT INTO bench_rows (job_id) VALUES (?)")
                    .bind(enqueued.id)
                    .execute(&mut *tx)
                    .await?;
            }
        } else {
            let many = (0..batch)
                .map(|n| NewJob::new("parked", &json!({ "n": n })))
                .collect::<Result<_, _>>()?;
            queue.enqueue_many(&mut tx, many).await?;
        }
        tx.commit().await?;
        jobs += batch;
    }
    Ok(jobs)
}
