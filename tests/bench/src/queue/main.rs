//! Measures the job queue against the bound that raw SQL sets on the same server, in one run; prints tables in Markdown,
//! and whether each bar is met.
//!
//! ```text
//! cargo build --release -p apalis-mariadb -p rag-bench
//! export DATABASE_URL=mysql://user:password@host/mysql
//! target/release/queue [--quick] [--readme FILE] [throughput | million | enqueue | latency | idle]…
//! target/release/queue soak [--minutes N]
//! ```
//!
//! All parts unless some are named. `--quick` takes three minutes instead of fifteen, and says less. `--readme` puts the tables
//! between the marks in that file. The server should serve nobody else meanwhile. It need not be a quiet machine: what
//! is compared takes turns in short slices, and medians are printed.

mod arguments;
mod cost;
mod database;
mod enqueue;
mod idle;
mod latency;
mod raw;
mod report;
mod soak;
mod throughput;
mod worker;

use anyhow::Result;

use arguments::{Arguments, Part};
use database::Database;
use report::Report;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let database = Database::create().await?;
    let mut report = Report::default();
    // Or until somebody wants it to end: the database goes in any case.
    let measured = tokio::select! {
        measured = measure(&database, &arguments, &mut report) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    database.drop().await?;
    measured?;
    if let Some(file) = &arguments.readme {
        report.write_into(file)?;
    }
    Ok(())
}

async fn measure(database: &Database, arguments: &Arguments, report: &mut Report) -> Result<()> {
    if let Some(time) = arguments.soak {
        return soak::run(database, time).await;
    }
    let quick = arguments.quick;
    let deadlocks = database.deadlocks().await?;
    report.server(&database.server().await?);
    if arguments.wants(Part::Throughput) {
        throughput::measure(database, quick, report).await?;
    }
    if arguments.wants(Part::Million) && !quick {
        throughput::compare_million(database, report).await?;
    }
    if arguments.wants(Part::Enqueue) {
        enqueue::measure(database, quick, report).await?;
    }
    if arguments.wants(Part::Latency) {
        latency::measure(database, quick, report).await?;
    }
    if arguments.wants(Part::Idle) {
        idle::measure(database, quick, report).await?;
    }
    let deadlocks = database.deadlocks().await? - deadlocks;
    report.line("");
    report.line(&format!(
        "Transactions that InnoDB ended because of a deadlock meanwhile: {deadlocks}. One that reached a caller would have ended the run."
    ));
    report.finish();
    Ok(())
}
